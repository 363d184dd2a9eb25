"""Where tests are recorded for the other side: another tree, or this one configured otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_llmperf.packages.environment import Environment
    from pytest_llmperf.session.base_recording import BaseRecording

#: The plugin is what measures both sides, whatever tree it comes from.
INSTRUMENT = "pytest_llmperf"


@dataclass(frozen=True)
class OtherTree:
    """Where a recording session runs, and how it differs from this one.

    Attributes:
        title: what messages call it.
        project: the root folder there.
        environment: the Python environment of its processes.
        roots: folders its modules are imported from first.
        top_here, top: the tops of this work tree and of that one; the same for another
            configuration.
        scratch: a folder for what only this run needs; None takes the system's.
        config_file: its configuration; None takes what this session was given, moved there.
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
        """Return the path there of one in this work tree; any other as it is."""
        path = Path(entry)
        if not entry or not path.is_absolute() or not path.is_relative_to(self.top_here):
            return entry
        return str(self.top / path.relative_to(self.top_here))


class RecordElsewhere(Protocol):
    """Runs test bodies in another tree."""

    def __call__(self, tree: OtherTree, wanted: Sequence[str]) -> BaseRecording:
        """Run the bodies of the ``wanted`` tests once there and return what they asked for.

        Raises:
            SideError: they could not be run.
        """
        ...
