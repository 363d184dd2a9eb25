"""The bound ``tune.max_kl``: how far answers may differ from those of today's configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.config.errors import ConfigError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.quality.errors import QualityError
from pytest_llmperf.session.quality import prompts_of
from pytest_llmperf.session.setup import with_settings
from pytest_llmperf.text import in_short
from pytest_llmperf.tune.space import answer_settings

if TYPE_CHECKING:
    from pytest_llmperf.quality.figures import QualityResult
    from pytest_llmperf.quality.passages import Prompt, Text
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.tune.space import Settings


class UncheckedAnswersError(Exception):
    """Raised if the answers of changed settings could not be compared with today's."""


class AnswerBound:
    """Checks that changed settings keep the answers near those of today's configuration.

    It is a ``Quality`` of the search. Settings that differ only in keys without influence on the
    answers are checked once.

    Args:
        setup: today's configuration, the reference.
        tests: tests whose prompts are scored, unless ``quality.text`` names a text.
        max_kl: largest divergence allowed, nats.
        say: called with a line of text before anything slow.
    """

    def __init__(
        self,
        setup: EngineSetup,
        tests: Sequence[RecordedTest],
        max_kl: float,
        say: Callable[[str], None],
    ) -> None:
        self._setup = setup
        self._tests = tests
        self._max_kl = max_kl
        self._say = say
        self._known: dict[str, str | None] = {}

    def __call__(self, changed: Settings) -> str | None:
        """Return why the answers are not good enough; None if they are.

        Raises:
            UncheckedAnswersError: the answers can't be compared.
        """
        decisive = answer_settings(changed)
        if not decisive:
            return None
        key = json.dumps(decisive, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._checked(changed)
        return self._known[key]

    def _checked(self, changed: Settings) -> str | None:
        from pytest_llmperf.quality.limits import QualityLimits, judge

        try:
            result = self._measured(changed)
        except (QualityError, ConfigError, EngineError, OSError) as error:
            reason = f"tune.max_kl can't be checked: {in_short(str(error))}"
            raise UncheckedAnswersError(reason) from error
        (check,) = QualityLimits(max_kl=self._max_kl).checks
        verdict = judge(check, result)
        return None if verdict.kind is VerdictKind.PASS else f"tune.max_kl: {verdict.claim}"

    def _measured(self, changed: Settings) -> QualityResult:
        """Measure the divergence from today's answers.

        Raises:
            QualityError, ConfigError, EngineError, OSError: the divergence can't be measured.
        """
        from pytest_llmperf.quality.measure import quality_of

        spec = with_settings(self._setup, changed).spec
        return quality_of(spec, self._setup.spec, self._material(), say=self._say)

    def _material(self) -> list[Prompt | Text]:
        from pytest_llmperf.quality.reference import configured_text

        text = configured_text(self._setup.loaded)
        if text is not None:
            return [text]
        return [prompt for test in self._tests for prompt in prompts_of(test)]
