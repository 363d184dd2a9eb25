"""Runs a session: facts, base side, trial, storing, confirmation, result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.atomic_write import unwritable
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.session.chosen_base import ChosenBase, module_origins
from pytest_llmperf.session.confirmation import Confirmation, Confirmer
from pytest_llmperf.session.errors import SideError
from pytest_llmperf.session.explaining import Explainer
from pytest_llmperf.session.facts import SessionFacts, gather_facts
from pytest_llmperf.session.measured_code import MeasuredCode
from pytest_llmperf.session.results import session_result
from pytest_llmperf.session.storing import store_session
from pytest_llmperf.session.trial import Trial, Trials

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.result import SessionResult

#: Errors that end a session before it measures: a device that another session does not free, a
#: baseline broken meanwhile, an unusable base.
SESSION_ERRORS = (EngineError, BaselineError, GitError, SideError)


class Session:
    """Measures and judges recorded tests.

    Args:
        context: configuration, engine, request and console.

    Attributes:
        trial: the measurement; None before it.
        notes: further remarks, one line each.
        problems: files that could not be written, one line each; verdicts are kept.
    """

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._base = ChosenBase(context)
        self._recorded_to: str | None = None
        self._confirmation = Confirmation()
        self.trial: Trial | None = None
        self.notes: list[str] = []
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Prepare the base of the comparison, before anything is loaded.

        Raises:
            ConfigError, SideError, GitError: it can't be provided.
        """
        self._base.prepare()

    def close(self) -> None:
        """Remove the other commit's tree; harmless when repeated."""
        self._base.close()

    def run(
        self, tests: Sequence[RecordedTest], engine: LlmEngine, collected: Sequence[str] = ()
    ) -> SessionResult:
        """Measure, judge, store and confirm the tests, and return the result.

        After an interrupt, ``result`` returns what is known so far.

        Args:
            tests: the recorded tests.
            engine: the engine they were recorded with; its process is ended.
            collected: node ids of all perf tests of the session.

        Raises:
            SESSION_ERRORS: nothing could be measured.
        """
        context, request = self._context, self._context.request
        origins = module_origins(context, engine)
        info, start_seconds = free_device(engine)
        base = self._base.side(tests, info, collected, origins)
        facts = gather_facts(context, info, base, tests)
        try:
            if request.record:
                check_folder(context.baselines_dir / facts.machine.key)
            show_notes(context, facts)
            perf = context.setup.perf
            trial = Trials(context, facts, start_seconds).run(tests, base, alpha=perf.false_alarms)
            self.trial = trial
            code = MeasuredCode(context, facts)
            self._store(trial, code)
            # A session that compares two sides has no stored verdicts to confirm.
            if base is None:
                confirmer = Confirmer(context, trial, start_seconds, origins, code)
                self._confirmation = confirmer.run()
            explainer = Explainer(request.doctor_command)
            return self._result(trial, explainer)
        finally:
            facts.close()

    @property
    def result(self) -> SessionResult | None:
        """Return the result so far; None before anything was measured."""
        return self._result(self.trial) if self.trial is not None else None

    def _result(self, trial: Trial, explainer: Explainer | None = None) -> SessionResult:
        return session_result(
            self._context,
            trial,
            self._confirmation,
            recorded_to=self._recorded_to,
            explainer=explainer,
        )

    def _store(self, trial: Trial, code: MeasuredCode) -> None:
        """Store the session if requested; a failed write loses no verdict."""
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


def free_device(engine: LlmEngine) -> tuple[EngineInfo, float]:
    """End the engine that tests were recorded with, so that another process can take the device.

    Returns:
        Its info, and the seconds that its start took.
    """
    info = engine.last_info or engine.info
    engine.close()
    return info, engine.start_seconds


def show_notes(context: SessionContext, facts: SessionFacts) -> None:
    """Show a session's notes, before it measures."""
    for note in facts.notes:
        context.console.line(f"note: {note}")


def check_folder(folder: Path) -> None:
    """Check that a session can be stored, before it measures.

    Raises:
        BaselineError: nothing can be written in the folder.
    """
    if problems := unwritable(folder, "perf.baselines"):
        raise BaselineError("\n".join(problems))
