"""The tree in which the base side's tests are recorded: another one, or this one reconfigured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_llmperf.packages.environment import Environment
    from pytest_llmperf.session.base_recording import BaseRecording

#: The plugin's package, which measures both sides and so is never taken from a tree.
INSTRUMENT = "pytest_llmperf"


@dataclass(frozen=True)
class OtherTree:
    """The location of a recording session, and its differences from this one.

    Attributes:
        title: its name in messages.
        project: its root folder.
        environment: the Python environment of its processes.
        roots: folders its modules are imported from first.
        top_here, top: the tops of this work tree and of that one; the same for another
            configuration.
        scratch: a folder for temporary files; None takes the system's.
        config_file: its configuration; None takes this session's, moved there.
    """

    title: str
    project: Path
    environment: Environment
    roots: tuple[str, ...]
    top_here: Path
    top: Path
    scratch: Path | None = None
    config_file: Path | None = None

    def moved(self, entry: str) -> str:
        """Return the counterpart of a path in this work tree; any other path unchanged."""
        path = Path(entry)
        if not entry or not path.is_absolute() or not path.is_relative_to(self.top_here):
            return entry
        return str(self.top / path.relative_to(self.top_here))


class RecordElsewhere(Protocol):
    """Runs test bodies in another tree."""

    def __call__(self, tree: OtherTree, wanted: Sequence[str]) -> BaseRecording:
        """Run the bodies of the ``wanted`` tests once in that tree and return their recordings.

        Raises:
            SideError: they could not be run.
        """
        ...
