"""Runs a session: facts, base side, trial, storing, confirmation, result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.atomic_write import unwritable
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.session.build_result import session_result
from pytest_llmperf.session.causes import Explainer
from pytest_llmperf.session.chosen_base import ChosenBase, module_origins
from pytest_llmperf.session.confirmation import Confirmation, Confirmer
from pytest_llmperf.session.errors import SideError
from pytest_llmperf.session.facts import SessionFacts, gather_facts
from pytest_llmperf.session.measured_code import MeasuredCode
from pytest_llmperf.session.storing import store_session
from pytest_llmperf.session.trial import Trial, Trials

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.session.base_side import BaseSide
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.result import SessionResult

#: Errors that end a session before it measures: a device that another session does not free, a
#: baseline broken meanwhile, an unusable base.
SESSION_ERRORS = (EngineError, BaselineError, GitError, SideError)


class Session:
    """Measures and judges recorded tests, once.

    Args:
        context: configuration, engine, options and console.

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
        self._unfinished: Trial | None = None
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
        self,
        tests: Sequence[RecordedTest],
        engine: LlmEngine,
        collected: Sequence[str] | None = None,
    ) -> SessionResult:
        """Measure, judge, store and confirm the tests, and return the result.

        After an interrupt, ``partial_result`` returns what is known so far.

        Args:
            tests: the recorded tests.
            engine: the engine they were recorded with; its process is ended.
            collected: node ids of all perf tests of the session; None if some may be missing.

        Raises:
            SESSION_ERRORS: nothing could be measured.
            RuntimeError: the session has run before, or its base was not prepared.
        """
        if self.trial is not None:
            raise RuntimeError("a session measures once: make another one")
        context = self._context
        origins = module_origins(context, engine)
        info, start_seconds = free_device(engine)
        base = self._base.side(tests, info, collected, origins)
        with session_facts(context, info, tests, base, self._folder) as facts:
            code = MeasuredCode(context, facts)
            trials = Trials(context, facts, start_seconds, code)
            try:
                trial = trials.run(tests, base, alpha=context.setup.perf.false_alarms)
            except KeyboardInterrupt:
                self._unfinished = trials.interrupted
                raise
            self.trial = trial
            self._store(trial, code)
            # A session that compares two sides has no stored verdicts to confirm.
            if base is None:
                self._confirmation = Confirmer(context, trials, trial, origins, code).run()
            return self._result(trial, Explainer())

    def partial_result(self, *, unfinished: bool = False) -> SessionResult | None:
        """Build the result of an interrupted session; None before anything was measured.

        ``unfinished``: also of a measure stage that was interrupted itself.
        """
        trial = self.trial or (self._unfinished if unfinished else None)
        return self._result(trial) if trial is not None else None

    def _folder(self, machine_folder: Path) -> Path | None:
        """Return the folder that the session is stored in; None if it is not stored."""
        return machine_folder if self._context.request.record else None

    def _result(self, trial: Trial, explainer: Explainer | None = None) -> SessionResult:
        return session_result(
            self._context,
            trial,
            self._confirmation,
            recorded_to=self._recorded_to,
            problems=self.problems,
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


@contextmanager
def session_facts(
    context: SessionContext,
    info: EngineInfo,
    tests: Sequence[RecordedTest],
    base: BaseSide | None,
    stored_in: Callable[[Path], Path | None],
) -> Iterator[SessionFacts]:
    """Gather the facts of a session and show its notes; telemetry ends with the context.

    Args:
        context: of the session.
        info: what its engine loaded.
        tests: what is measured.
        base: the base side, or None.
        stored_in: of a machine's folder, the one that the session is stored in, or None.

    Raises:
        BaselineError: stored sessions can't be used, or nothing can be written in that folder.
        GitError: the commit whose baselines count can't be read.
    """
    facts = gather_facts(context, info, base, tests)
    try:
        folder = stored_in(context.baselines_dir / facts.machine.key)
        problems = unwritable(folder, "perf.baselines") if folder is not None else []
        if problems:
            raise BaselineError("\n".join(problems))
        for note in facts.notes:
            context.console.line(f"note: {note}")
        yield facts
    finally:
        facts.close()
