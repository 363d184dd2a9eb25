"""The inputs of a session: configuration, engine, request, and console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_llmperf.session.console import Console, SilentConsole
from pytest_llmperf.session.errors import SideError
from pytest_llmperf.session.waiting import FitWait

if TYPE_CHECKING:
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.repository.revisions import Revision
    from pytest_llmperf.session.base_recording import BaseRecording
    from pytest_llmperf.session.base_side import BaseSide
    from pytest_llmperf.session.other_tree import OtherTree, RecordElsewhere
    from pytest_llmperf.session.setup import EngineSetup

#: When tests are run against the commit of their baseline before they are judged;
#: with ``on request`` the report says how to confirm suspects.
Confirming = Literal["auto", "never", "always", "on request"]


@dataclass(frozen=True)
class SessionRequest:
    """The options of one session.

    Attributes:
        base_commit: another commit to compare with, or None.
        base_config: another configuration file to compare with, or None.
        base_side: the base itself, where the caller has prepared it, or None.
        baselines_from: the revision whose stored sessions count; None takes the work tree's, in
            the CI job of a pull request its merge base's.
        record: store the session as a baseline.
        accept: why its level is the new one from now on, or None.
        strict: fail what is inconclusive.
        confirming: when suspects are run against the commit of their baseline.
        names_tests: single tests were asked for, so others are not missing.
        written: files that this session writes besides baselines, which are no code.
        doctor_command: the command that examines this configuration, from the user's folder.
        record_command: the command that records a baseline, from that folder.
    """

    base_commit: Revision | None = None
    base_config: Path | None = None
    base_side: BaseSide | None = None
    baselines_from: str | None = None
    record: bool = False
    accept: str | None = None
    strict: bool = False
    confirming: Confirming = "auto"
    names_tests: bool = True
    written: tuple[Path, ...] = ()
    doctor_command: str = "llmperf doctor"
    record_command: str = "pytest -m perf --llmperf-record"


def no_other_tree(tree: OtherTree, wanted: Sequence[str]) -> BaseRecording:  # noqa: ARG001
    """Refuse to record in another tree, for callers that can't.

    Raises:
        SideError: always.
    """
    raise SideError(f"tests can't be recorded at {tree.title} from here; run them with pytest")


@dataclass(frozen=True)
class SessionContext:
    """The inputs of a session.

    Attributes:
        project: the folders of the project under test.
        setup: the configuration and its engine.
        request: the options.
        console: where plan and progress are shown.
        wait: the account of waiting for a busy machine.
        record_elsewhere: records tests in another tree.
        import_paths: folders an application's modules are imported from first.
        import_roots: of these, the folders given to this process explicitly.
    """

    project: ProjectFolders
    setup: EngineSetup
    request: SessionRequest = field(default_factory=SessionRequest)
    console: Console = field(default_factory=SilentConsole)
    wait: FitWait = field(default_factory=FitWait)
    record_elsewhere: RecordElsewhere = no_other_tree
    import_paths: tuple[str, ...] = ()
    import_roots: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The project's root folder."""
        return self.project.root

    @property
    def baselines_dir(self) -> Path:
        """The folder of the stored sessions."""
        return self.setup.loaded.baselines_dir
