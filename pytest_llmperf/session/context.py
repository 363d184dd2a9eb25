"""The inputs of a session: configuration, engine, options, and where progress is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.measure.plan import Plan
    from pytest_llmperf.measure.rounds import Step
    from pytest_llmperf.repository.revisions import Revision
    from pytest_llmperf.session.base_recording import RecordElsewhere
    from pytest_llmperf.session.base_side import BaseSide
    from pytest_llmperf.session.machine_watch import FitWait
    from pytest_llmperf.session.setup import EngineSetup


class Console(Protocol):
    """Output of a session while it runs."""

    def line(self, text: str) -> None:
        """Show one line."""

    def progress(
        self, plan: Plan, *, in_logs: bool = True
    ) -> AbstractContextManager[Callable[[Step], None]]:
        """Show the progress of ``plan``'s rounds; yields a function to call before each replay.

        ``in_logs``: show it even if the output is not a terminal.
        """
        ...


class SilentConsole:
    """Shows nothing."""

    def line(self, text: str) -> None:
        """Ignore the line."""

    @contextmanager
    def progress(
        self,
        plan: Plan,  # noqa: ARG002
        *,
        in_logs: bool = True,  # noqa: ARG002
    ) -> Iterator[Callable[[Step], None]]:
        """Show nothing."""
        yield lambda _: None


class LineConsole(SilentConsole):
    """Shows only lines.

    Args:
        show: prints a line.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def line(self, text: str) -> None:
        """Show one line."""
        self._show(text)


#: When tests are run against the commit of their baseline before they are judged;
#: with ``on request`` the report says how to confirm suspects.
Confirming = Literal["auto", "never", "always", "on request"]


@dataclass(frozen=True)
class SessionRequest:
    """Options of one session: what it is compared with, what it stores, when it confirms.

    Attributes:
        base: another commit, configuration file or prepared side to compare with, or None.
        baselines_from: the commit whose stored sessions count; None takes the work tree, or in
            the CI job of a pull request its merge base.
        record: store the session as a baseline.
        accept: why the recorded level is the new baseline from now on, or None.
        strict: fail inconclusive tests.
        confirming: when suspects are run against the commit of their baseline.
        output_files: files other than baselines that the session writes; they do not count as code.
        how_to_confirm: how to confirm suspects if ``confirming`` is "on request".
    """

    base: Revision | Path | BaseSide | None = None
    baselines_from: Revision | None = None
    record: bool = False
    accept: str | None = None
    strict: bool = False
    confirming: Confirming = "auto"
    output_files: tuple[Path, ...] = ()
    how_to_confirm: str = ""


@dataclass(frozen=True)
class SessionContext:
    """A configured engine, the session's options, and where progress is shown.

    Attributes:
        setup: the configuration and its engine.
        wait: waits for a busy machine and counts the waiting time.
        request: the options.
        console: where plan and progress are shown.
        record_elsewhere: records tests in another tree; None if that is impossible, so that
            nothing is compared with another commit.
        import_paths: folders an application's modules are imported from first.
        import_roots: those of these folders that were given to this process.
    """

    setup: EngineSetup
    wait: FitWait
    request: SessionRequest = field(default_factory=SessionRequest)
    console: Console = field(default_factory=SilentConsole)
    record_elsewhere: RecordElsewhere | None = None
    import_paths: tuple[str, ...] = ()
    import_roots: tuple[str, ...] = ()

    @property
    def project(self) -> ProjectFolders:
        """The folders of the project under test."""
        return self.setup.project

    @property
    def root(self) -> Path:
        """The project's root folder."""
        return self.project.root

    @property
    def baselines_dir(self) -> Path:
        """The folder of the stored sessions."""
        return self.setup.loaded.baselines_dir

    @property
    def confirming(self) -> Confirming:
        """When suspects are confirmed; never where tests can't be recorded elsewhere."""
        return self.request.confirming if self.record_elsewhere is not None else "never"

    @property
    def strict(self) -> bool:
        """Whether inconclusive tests fail."""
        return self.request.strict or self.setup.perf.strict
