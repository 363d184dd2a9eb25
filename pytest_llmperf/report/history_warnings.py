"""Warnings beside a history: what is missing from it, and why; each is one or more lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import count
from pytest_llmperf.text import printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_llmperf.history.index import LevelIndex

#: Unreadable records that are named; the others are counted.
_NAMED = 10
SHALLOW = (
    "this is a shallow clone: sessions that were removed before its first commit "
    "are missing, and orders of commits unknown; to have them: git fetch --unshallow"
)


def index_warnings(index: LevelIndex) -> Iterator[str]:
    """Explain why all records had to be read again, if they had to."""
    file = printable(str(index.file))
    if index.problem:
        yield (
            f"{file} cannot be used ({printable(index.problem)}): records are read again "
            "each time; to keep what was read in another folder: LLMPERF_CACHE_DIR"
        )
    elif index.damage:
        yield (
            f"{file} could not be read ({printable(index.damage)}): it was started "
            "again, from the records themselves"
        )


def unreadable_warnings(unreadable: Mapping[str, str]) -> Iterator[str]:
    """Name the files that were left out, each with its reason."""
    if not unreadable:
        return
    lines = [f"{count(len(unreadable), 'file')} left out:"]
    for path, why in list(unreadable.items())[:_NAMED]:
        lines.append(f"  {printable(path)}: {printable_lines(why, '    ')}")
    if len(unreadable) > _NAMED:
        lines.append(f"  and {len(unreadable) - _NAMED} more")
    yield "\n".join(lines)


def no_change_points(install: str) -> str:
    """Warn that change points are not looked for, with the command that installs the library."""
    return f"change points are not looked for; to have them: {install}"
