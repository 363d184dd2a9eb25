"""A progress bar on the standard error, where that is a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_WIDTH = 30
#: Seconds between two drawings, and until the first one: what is quick needs no bar.
_PAUSE = 0.2


class ProgressBar:
    """A bar of the share that is done; a context manager that removes it at the end.

    ``what``: what is being done, in a word or two.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _PAUSE if sys.stderr.isatty() else float("inf")
        self._drawn = 0

    def __call__(self, done: int, total: int) -> None:
        """Draw the bar, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PAUSE
        full = _WIDTH * done // total
        bar = f"{'#' * full}{'.' * (_WIDTH - full)}"
        # A line that wraps could not be drawn over.
        room = shutil.get_terminal_size((80, 24)).columns - 1
        line = f"{self._what} [{bar}] {done:,} of {total:,}"[:room]
        self._write(f"\r{line:<{self._drawn}}")
        self._drawn = len(line)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._drawn:
            self._write(f"\r{'':{self._drawn}}\r")
            self._drawn = 0

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
