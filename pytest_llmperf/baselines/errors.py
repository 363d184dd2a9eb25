"""Errors about stored baselines, with messages for the user."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class BaselineError(Exception):
    """Stored baselines cannot be read or written; str() is the complete message."""


class BadRecordError(BaselineError):
    """One file is not a record that this version can use.

    Args:
        path: the file.
        what: the problem.
        remedy: how to fix it; default: restore the committed file.
        line: number of the bad line, from 1, if known.
    """

    def __init__(self, path: Path, what: str, remedy: str = "", line: int | None = None) -> None:
        where = f"{path}:{line}" if line else str(path)
        super().__init__(f"{where}: {what}\n  {remedy or restore(path)}")


def restore(path: Path, again: str = "record again: pytest -m perf --llmperf-record") -> str:
    """Explain how to restore the committed file, or else how to make another one.

    The committed file may be the bad one, too.
    """
    return (
        f"restore the committed file: git checkout -- {shlex.quote(str(path))}; "
        f"if there is none, or it is broken too, delete the file and {again}"
    )
