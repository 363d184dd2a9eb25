"""Finds visible causes of a test that is too slow, without trying changes."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.measure.samples import CANDIDATE
from pytest_llmperf.session.result import DiagnosedCause

if TYPE_CHECKING:
    from pytest_llmperf.diagnosis.situation import Hardware, Use
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.session.trial import Trial

_TOO_SLOW = frozenset({VerdictKind.MISSED, VerdictKind.REGRESSED})


@dataclass(frozen=True)
class Explanation:
    """Possible causes of a slow test.

    Attributes:
        causes: visible causes, the costliest first.
        command: the command that measures the effect of each change.
    """

    causes: tuple[DiagnosedCause, ...]
    command: str


class Explainer:
    """Looks for causes of tests that miss a target or regressed.

    Args:
        setup: the session's configuration.

    Attributes:
        problems: why looking failed, one line each.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._setup = setup
        self._hardware: Hardware | None = None
        self.problems: list[str] = []

    def explain(self, trial: Trial, test: RecordedTest) -> Explanation | None:
        """Return why a test may be slow; None if it is not, or no cause is visible."""
        verdicts = [one.verdict for one in trial.checks[test.nodeid] if one.verdict]
        if not any(reason.kind in _TOO_SLOW for one in verdicts for reason in one.reasons):
            return None
        try:
            return self._examined(trial, test)
        except Exception as error:
            # Looking for causes must not lose the verdicts that were measured.
            problem = f"looking for causes failed: {type(error).__name__}: {error}"
            if problem not in self.problems:
                self.problems.append(problem)
            return None

    def _examined(self, trial: Trial, test: RecordedTest) -> Explanation | None:
        from pytest_llmperf.diagnosis.gathering import look_at_hardware, worst_of_each
        from pytest_llmperf.diagnosis.registry import examine
        from pytest_llmperf.diagnosis.situation import Situation

        if self._hardware is None:
            self._hardware = look_at_hardware()
        facts, samples = trial.facts, trial.measurement.tests[test.nodeid]
        # As the verdict: only this side's valid processes.
        found = (f for one in samples.processes if one.side == CANDIDATE for f in one.findings)
        use = _use(test.workload)
        checks = [one for one in trial.checks[test.nodeid] if one.summary]
        situation = Situation(
            config=facts.config,
            hardware=self._hardware,
            info=facts.info,
            use=use,
            metrics={one.check.metric.name: one.summary.value for one in checks if one.summary},
            findings=worst_of_each(found),
            model_bytes=facts.info.file_bytes,
        )
        causes = tuple(
            DiagnosedCause(
                name=one.cause.name,
                title=one.cause.title,
                evidence=one.evidence.text,
                change=one.evidence.remedy.change,
                certain=one.evidence.certain,
            )
            for one in examine(situation)
        )
        if not causes:
            return None
        sizes = f" --prompt-tokens {use.prompt_tokens}" if use.prompt_tokens else ""
        return Explanation(
            causes, f"{doctor_command(self._setup)}{sizes} --max-tokens {use.output_tokens}"
        )


def _use(workload: Workload) -> Use:
    from pytest_llmperf.diagnosis.situation import Use

    requests = workload.requests
    return Use(
        prompt_tokens=max(len(one.prompt_token_ids) for one in requests),
        output_tokens=max(one.output_tokens for one in requests),
        context=max(len(one.prompt_token_ids) + one.output_tokens for one in requests),
        own=True,
    )


def doctor_command(setup: EngineSetup) -> str:
    """Return the command that examines a configuration, from the folder it was started in."""
    from pytest_llmperf.config.project import ProjectFolders

    started, file = setup.project.started, setup.loaded.path
    words = ["llmperf", "doctor"]
    if file is not None and file != ProjectFolders.around(started).config_file():
        try:
            words += ["--config", os.path.relpath(file, started)]
        except ValueError:  # on another drive
            words += ["--config", str(file)]
    for override in setup.overrides:
        words += ["--set", override]
    return shlex.join(words)
