"""One run of ``llmperf tune``: the search, then the proof of the best point's gain."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.interrupts import sigterm_raises
from pytest_llmperf.quality.errors import QualityError
from pytest_llmperf.quality.reference import configured_text
from pytest_llmperf.session.run import SESSION_ERRORS, free_device, session_facts
from pytest_llmperf.session.setup import with_settings
from pytest_llmperf.text import count
from pytest_llmperf.tune.answers import AnswerBound
from pytest_llmperf.tune.confirm import Proven, prove, targets_of
from pytest_llmperf.tune.errors import TuneError
from pytest_llmperf.tune.levels import completed
from pytest_llmperf.tune.objective import Objective, objective_of
from pytest_llmperf.tune.pareto import front
from pytest_llmperf.tune.race import levels_of_look
from pytest_llmperf.tune.request import TuneRequest, write_result
from pytest_llmperf.tune.result import Configuration, Level, TuneResult
from pytest_llmperf.tune.search import Quality, SearchOutcome, SettingsSearch
from pytest_llmperf.tune.server_space import space_problem
from pytest_llmperf.tune.space import Settings, shown
from pytest_llmperf.tune.storage import check_optuna

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.facts import SessionFacts
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup

#: Share of the budget that is reserved for the final comparison.
PROOF_PART = 0.25


class TuneRun:
    """One run of ``llmperf tune``: searches, and proves the gain of the best point.

    Args:
        context: session context of today's configuration.
        request: the options of ``llmperf tune``.
        quality: checks the answers of a point before it becomes the best; None checks them
            against ``tune.max_kl``, if that is set.
    """

    def __init__(
        self, context: SessionContext, request: TuneRequest, quality: Quality | None = None
    ) -> None:
        self._context = context
        self._request = request
        self._quality = quality
        self._tune = context.setup.loaded.config.tune
        self._budget = request.budget or self._tune.budget

    def check(self) -> None:
        """Check everything that can be checked before an engine is loaded.

        Raises:
            StudyError: Optuna is not installed.
            TuneError: a bound can't be checked, or the configuration can't be searched.
        """
        check_optuna()
        setup = self._context.setup
        if why := space_problem(setup):
            raise TuneError(why)
        if self._tune.max_kl is None or self._quality is not None:
            return
        if not setup.llm.kind.scores:
            raise TuneError(
                f"tune.max_kl can't be checked: the engine {setup.llm.engine!r} reports no "
                "probabilities; set tune.max_kl: null"
            )
        try:
            configured_text(setup.loaded)
        except QualityError as error:
            raise TuneError(f"tune.max_kl can't be checked: {error}") from None

    def run(self, tests: Sequence[RecordedTest], engine: LlmEngine) -> TuneResult:
        """Search, prove the gain of the best point, and return the result.

        It is also written to the file that the request names.

        Ctrl-C and SIGTERM end the run with the result so far.

        Args:
            tests: the recorded tests.
            engine: the engine that they were recorded with; its process is ended.

        Raises:
            StudyError, TuneError: the search can't start.
            SESSION_ERRORS: nothing could be measured.
        """
        self.check()
        with sigterm_raises(KeyboardInterrupt()):
            result = self._run(tests, engine)
        if self._request.outcome is not None:
            write_result(Path(self._request.outcome), result)
        return result

    def _run(self, tests: Sequence[RecordedTest], engine: LlmEngine) -> TuneResult:
        for test in tests:
            if why := test.workload.unmeasurable():
                raise TuneError(f"{test.nodeid}: {why}")
        began = time.monotonic()
        info, _ = free_device(engine)
        objective = objective_of(tests, self._tune.targets)
        with session_facts(self._context, info, tests, None, lambda _: None) as facts:
            quality = self._quality or self._answer_bound(tests)
            search = SettingsSearch(self._context, self._request, facts, tests, objective, quality)
            end = began + self._budget * (1 - PROOF_PART)
            found = search.run(info, end, self._budget)
        proven, problem = None, ""
        interrupted = found.interrupted
        if found.best is not None and not interrupted:
            left = self._budget - (time.monotonic() - began)
            winner = with_settings(self._context.setup, found.best.settings)
            self._context.console.line(
                f"best point: {shown(found.best.settings)}; comparing it with today's "
                "configuration in fresh pairs"
            )
            try:
                budget = max(left, PROOF_PART * self._budget)
                proven = prove(self._context, tests, engine, winner, objective, budget)
            except KeyboardInterrupt:
                interrupted = True
            except SESSION_ERRORS as error:
                problem = str(error).splitlines()[0]
        found = replace(found, interrupted=interrupted)
        seconds = time.monotonic() - began
        return self._result(found, proven, problem, objective, facts, tests, seconds)

    def _answer_bound(self, tests: Sequence[RecordedTest]) -> Quality | None:
        if self._tune.max_kl is None:
            return None
        return AnswerBound(
            self._context.setup, tests, self._tune.max_kl, self._context.console.line
        )

    def _result(
        self,
        found: SearchOutcome,
        proven: Proven | None,
        problem: str,
        objective: Objective,
        facts: SessionFacts,
        tests: Sequence[RecordedTest],
        seconds: float,
    ) -> TuneResult:
        setup, best = self._context.setup, found.best
        today = completed(0, levels_of_look(found.today), found.points)
        points = tuple(
            replace(point, levels=completed(point.number, point.levels, found.points))
            for point in found.points
        )
        confirmation = proven.confirmation if proven is not None else None
        winner = None
        if proven is not None and best is not None and proven.confirmation.improved:
            tuned = with_settings(setup, best.settings)
            winner = _configuration(tuned, best.settings, proven.levels(winner=True), best.number)
        before = proven.levels(winner=False) if proven is not None else today
        numbers, metrics = front(points, today)
        notes = [*facts.notes]
        if problem:
            notes.append(f"the gain could not be measured: {problem}")
        if winner is not None and "model_path" in winner.changed and self._tune.max_kl is None:
            notes.append(
                "these settings use another model or quantization, and its answers were not "
                "compared with today's; compare them with llmperf quality, or limit the difference "
                "with tune.max_kl"
            )
        return TuneResult(
            before=_configuration(setup, {}, before, 0),
            winner=winner,
            confirmed=confirmation,
            conclusion=_conclusion(found, proven, problem),
            targets=targets_of(objective, proven, today, has_winner=winner is not None),
            points=points,
            phases=self._request.phases,
            pareto=numbers,
            pareto_metrics=metrics,
            objective=objective.metrics,
            seconds=seconds,
            budget=self._budget,
            study=found.study.name,
            storage=found.study.storage,
            seed=found.study.seed,
            machine=facts.machine.key,
            model=facts.model.label,
            engine=f"{facts.info.engine} {facts.info.engine_version}",
            workload=tuple(f"{test.nodeid}: {test.workload.summary}" for test in tests),
            interrupted=found.interrupted,
            notes=tuple(notes),
        )


def _configuration(
    setup: EngineSetup, changed: Settings, levels: tuple[Level, ...], number: int
) -> Configuration:
    file = str(setup.model.first) if setup.model is not None else None
    return Configuration(setup.llm.resolved(), dict(changed), levels, number, file)


def _conclusion(found: SearchOutcome, proven: Proven | None, problem: str) -> str:
    if proven is not None:
        return proven.confirmation.text
    if found.interrupted:
        return "interrupted; run the same command to continue"
    if problem:
        return f"no proven improvement: {problem}"
    tried = count(len(found.points), "point")
    return f"no proven improvement: {tried} tried, none better than today's configuration"
