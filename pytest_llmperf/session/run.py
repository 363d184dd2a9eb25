"""Runs a session: facts, base side, trial, storing, confirmation, result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.atomic_write import unwritable
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.repository.git import GitError
from pytest_llmperf.repository.state import changed_since
from pytest_llmperf.session.base_side import BaseSide, SideError, config_side
from pytest_llmperf.session.build_result import session_result
from pytest_llmperf.session.causes import Explainer
from pytest_llmperf.session.commit_checkout import (
    CommitCheckout,
    check_out_commit,
    foreign_module,
    module_origins,
    repository_of,
)
from pytest_llmperf.session.commit_side import commit_side, recorded_side
from pytest_llmperf.session.confirmation import Confirmer, SuspectConfirmation
from pytest_llmperf.session.facts import SessionFacts, gather_facts
from pytest_llmperf.session.measured_code import MeasuredCode
from pytest_llmperf.session.quality import TestQuality, measure_quality
from pytest_llmperf.session.storing import store_session
from pytest_llmperf.session.tolerances import with_tolerances
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
        self._base: BaseSide | None = None
        self._checkout: CommitCheckout | None = None
        self._trials: Trials | None = None
        self._recorded_to: str | None = None
        self._confirmation = SuspectConfirmation()
        self._quality: Mapping[str, TestQuality] = {}
        self._interrupted = False
        self.trial: Trial | None = None
        self.notes: list[str] = []
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Read the other configuration, or check the other commit out; nothing is loaded.

        Raises:
            ConfigError: the other configuration is wrong.
            SideError, GitError: the commit can't be checked out.
        """
        context, base = self._context, self._context.request.base
        if isinstance(base, BaseSide):
            self._base = base
        elif isinstance(base, Path):
            self._base = config_side(context, base)
        elif base is not None:
            if context.record_elsewhere is None:
                raise SideError("tests of another commit can't be recorded here; use pytest")
            repository = repository_of(context.root, "the base")
            # Needed again after the bodies have run, so problems are reported now.
            changed_since(repository, base.commit)
            self._checkout = check_out_commit(
                context.root,
                repository,
                base,
                context.console.line,
                context.setup.perf.base_install,
                import_roots=context.import_roots,
            )

    def close(self) -> None:
        """Remove the other commit's tree; may be called again."""
        if self._checkout is not None:
            self._checkout.close()

    def run(
        self,
        tests: Sequence[RecordedTest],
        engine: LlmEngine,
        collected: Mapping[str, bool] | None = None,
    ) -> SessionResult:
        """Measure, judge, store and confirm the tests, and return the result.

        After an interrupt, ``partial_result`` returns what is known so far.

        Args:
            tests: the recorded tests.
            engine: the engine they were recorded with; its process is ended.
            collected: see ``commit_side``.

        Raises:
            SESSION_ERRORS: nothing could be measured.
            RuntimeError: the session has run before, or its base was not prepared.
        """
        if self.trial is not None:
            raise RuntimeError("a session measures once: make another one")
        try:
            return self._run(tests, engine, collected)
        except KeyboardInterrupt:
            self._interrupted = True
            raise

    def _run(
        self,
        tests: Sequence[RecordedTest],
        engine: LlmEngine,
        collected: Mapping[str, bool] | None,
    ) -> SessionResult:
        context = self._context
        origins = module_origins(context, engine)
        info, start_seconds = free_device(engine)
        base = self._base_side(tests, info, collected, origins)
        with session_facts(context, info, tests, base, self._folder) as gathered:
            facts = with_tolerances(gathered, tests, context.setup.perf)
            self._quality = measure_quality(context, tests)
            code = MeasuredCode(context, facts)
            trials = self._trials = Trials(context, facts, start_seconds, code)
            self.trial = trial = trials.run(tests, base, alpha=context.setup.perf.false_alarms)
            self._store(trial, code)
            # A session that compares two sides has no stored verdicts to confirm.
            if base is None:
                self._confirmation = Confirmer(context, trials, trial, origins, code).run()
            return self._result(trial, Explainer())

    def partial_result(self) -> SessionResult | None:
        """Build the result of a session that ended early; None before anything was measured.

        Checks that the samples decide get their verdicts; the others are inconclusive.
        """
        trial = self.trial
        if trial is None and self._trials is not None:
            trial = self._trials.interrupted
        return self._result(trial) if trial is not None else None

    def _base_side(
        self,
        tests: Sequence[RecordedTest],
        info: EngineInfo,
        collected: Mapping[str, bool] | None,
        origins: Mapping[str, str],
    ) -> BaseSide | None:
        """Return the base side, after recording the tests there if needed; None without one.

        Raises:
            SideError: the base can't be used.
            GitError: git can't list the differences.
            RuntimeError: ``prepare`` was not called.
        """
        if self._checkout is not None:
            if text := foreign_module(origins, self._checkout.repository.top, "this session"):
                raise SideError(text)
            return commit_side(self._context, self._checkout, tests, info, collected)
        if self._base is not None:
            return recorded_side(self._context, self._base, tests)
        if self._context.request.base is not None:
            raise RuntimeError("the base was not prepared: call Session.prepare() first")
        return None

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
            quality=self._quality,
            interrupted=self._interrupted,
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
                "accepted: later sessions are compared with this session's level, except for tests "
                f"that were invalid or not measured ({request.accept})"
            )


def free_device(engine: LlmEngine) -> tuple[EngineInfo, float]:
    """End the engine that tests were recorded with, so that another process can take the device.

    Returns:
        Its info, and the seconds that its start took.
    """
    info = engine.own_info or engine.last_info or engine.info
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
        context: the session's context.
        info: what its engine loaded.
        tests: the tests to measure.
        base: the base side, or None.
        stored_in: returns, from the machine's folder, where the session is stored, or None.

    Raises:
        BaselineError: stored sessions can't be used, or nothing can be written in that folder.
        GitError: the commit whose baselines count can't be read.
    """
    with gather_facts(context, info, base, tests) as facts:
        folder = stored_in(context.baselines_dir / facts.machine.key)
        problems = unwritable(folder, "perf.baselines") if folder is not None else []
        if problems:
            raise BaselineError("\n".join(problems))
        for note in facts.notes:
            context.console.line(f"note: {note}")
        yield facts
