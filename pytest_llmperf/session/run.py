"""Runs a session: facts, base side, trial, storing, confirmation, result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.session.calibrating import Calibrator
from pytest_llmperf.session.chosen_base import ChosenBase, module_origins
from pytest_llmperf.session.confirmation import Confirmation, Confirmer
from pytest_llmperf.session.errors import SideError
from pytest_llmperf.session.explaining import Explainer
from pytest_llmperf.session.facts import SessionFacts, gather_facts
from pytest_llmperf.session.measured_code import MeasuredCode
from pytest_llmperf.session.places_to_write import unwritable_places
from pytest_llmperf.session.results import session_result
from pytest_llmperf.session.storing import store_session
from pytest_llmperf.session.trial import Trial, Trials

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.gate.calibration import Calibration
    from pytest_llmperf.session.calibration_request import CalibrationRequest
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.result import SessionResult

#: What ends a session that was about to measure: a device that another session does not free, a
#: baseline broken meanwhile, a base that can't be used.
SESSION_ERRORS = (EngineError, BaselineError, GitError, SideError)


class Session:
    """Measures and judges recorded tests.

    Args:
        context: configuration, engine, request and console.

    Attributes:
        trial: what was measured; None before.
        calibration: the sessions of a calibration, reduced; None before.
        notes: what else to know, one line each.
        problems: what could not be written, one line each; it loses no verdict.
    """

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._base = ChosenBase(context)
        self._recorded_to: str | None = None
        self._confirmation = Confirmation()
        self.trial: Trial | None = None
        self.calibration: Calibration | None = None
        self.notes: list[str] = []
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Bring what the session is to be compared with, before anything is loaded.

        Raises:
            ConfigError, SideError, GitError: it can't be had.
        """
        self._base.prepare()

    def close(self) -> None:
        """Remove the other commit's tree; harmless when repeated."""
        self._base.close()

    def run(
        self, tests: Sequence[RecordedTest], engine: LlmEngine, collected: Sequence[str] = ()
    ) -> SessionResult:
        """Measure, judge, store and confirm the tests, and return what the session has to say.

        Interrupted, ``result`` has what is known by then.

        Args:
            tests: what was recorded.
            engine: what it was recorded with; its process is ended.
            collected: node ids of all perf tests of the session.

        Raises:
            SESSION_ERRORS: nothing could be measured.
        """
        context = self._context
        origins = module_origins(context, engine)
        info, start_seconds = _freed(engine)
        base = self._base.side(tests, info, collected, origins)
        facts = gather_facts(context, info, base, tests)
        try:
            self._check_places(facts.machine.key)
            self._show_notes(facts)
            perf = context.setup.perf
            trial = Trials(context, facts, start_seconds).run(tests, base, alpha=perf.false_alarms)
            self.trial = trial
            code = MeasuredCode(context, facts)
            self._store(trial, code)
            # A session that is compared with another side has no stored verdicts to confirm.
            if base is None:
                confirmer = Confirmer(context, trial, start_seconds, origins, code)
                self._confirmation = confirmer.run()
            explainer = Explainer(context.request.doctor_command)
            return self._result(trial, explainer)
        finally:
            facts.close()

    def calibrate(
        self, request: CalibrationRequest, tests: Sequence[RecordedTest], engine: LlmEngine
    ) -> Mapping[str, str]:
        """Judge the tests against themselves, as often as asked for, and store the outcome.

        Interrupted, the sessions that are done are reduced and not stored.

        Returns:
            Why tests can't be measured, by node id.

        Raises:
            SESSION_ERRORS: nothing could be measured.
        """
        context = self._context
        info, start_seconds = _freed(engine)
        facts = gather_facts(context, info, None, tests)
        try:
            self._check_places(facts.machine.key, request)
            self._show_notes(facts)
            calibrator = Calibrator(context, request, tests, facts, start_seconds)
            try:
                calibrator.run()
            finally:
                if calibrator.runs:
                    self.calibration = calibrator.outcome()
            notes, problems = calibrator.keep(self.calibration)
            self.notes += notes
            self.problems += problems
            return calibrator.errors
        finally:
            facts.close()

    @property
    def result(self) -> SessionResult | None:
        """What the session has to say so far; None before anything was measured."""
        return self._result(self.trial) if self.trial is not None else None

    def _result(self, trial: Trial, explainer: Explainer | None = None) -> SessionResult:
        return session_result(
            self._context,
            trial,
            self._confirmation,
            recorded_to=self._recorded_to,
            explainer=explainer,
        )

    def _show_notes(self, facts: SessionFacts) -> None:
        for note in facts.notes:
            self._context.console.line(f"note: {note}")

    def _check_places(self, machine: str, calibration: CalibrationRequest | None = None) -> None:
        """Refuse to measure what could not be stored.

        Raises:
            BaselineError: a folder can't be written to.
        """
        record = self._context.request.record and calibration is None
        folder = self._context.baselines_dir
        if problems := unwritable_places(folder, machine, record=record, calibration=calibration):
            raise BaselineError("\n".join(problems))

    def _store(self, trial: Trial, code: MeasuredCode) -> None:
        """Store the session where that is asked for; what can't be written loses no verdict."""
        request = self._context.request
        if not request.record:
            return
        try:
            self._recorded_to = str(store_session(trial, code.provenance, request.accept))
        except BaselineError as error:
            self.problems.append(f"the baseline was not recorded: {error}")
            return
        if request.accept is not None:
            self.notes.append(
                "accepted: from now on this session's level is the one to compare with, "
                f"but for tests that were invalid or not measured ({request.accept})"
            )


def _freed(engine: LlmEngine) -> tuple[EngineInfo, float]:
    """End the engine that tests were recorded with; return what it loaded, and how long that took.

    It must free the device before another process takes it.
    """
    info = engine.last_info or engine.info
    engine.close()
    return info, engine.start_seconds
