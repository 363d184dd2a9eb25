"""Live progress on a terminal: a block of a few lines, redrawn before each replay.

Nothing is drawn while a generation runs: a thread that redraws would take time from the
engine that is measured.
"""

from __future__ import annotations

import io
from threading import RLock
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pytest_llmperf.report.progress import (
    open_lines,
    replay_words,
    round_words,
    short_name,
    time_words,
)
from pytest_llmperf.text import DOT, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmperf.measure.rounds import Step

_BAR_COLUMNS = 20


class _Terminal(io.TextIOBase):
    """Passes rich's output on to a function."""

    def __init__(self, write: Callable[[str], None], encoding: str) -> None:
        self._write = write
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def write(self, text: str) -> int:
        self._write(text)
        return len(text)

    def isatty(self) -> bool:
        return True


class _Console(Console):
    """A console that never hides the cursor: a killed process could not show it again.

    Attributes:
        lock: held from rendering to writing. Otherwise the output of two threads could be
            written in another order than it was rendered in, and overwrite lines.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lock = RLock()

    def __enter__(self) -> Console:
        self.lock.acquire()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self.lock.release()

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
        return False


class LiveProgress:
    """Shows progress in place; other output goes above it.

    Args:
        write: writes text to the terminal at once.
        color: whether colours may be used.
        encoding: the terminal's encoding.
        expected_seconds: expected time for the minimum number of processes, seconds.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        color: bool,
        encoding: str = "utf-8",
        expected_seconds: float | None = None,
    ) -> None:
        self._expected = expected_seconds
        self._dot = DOT if encoding.lower().startswith("utf") else ", "
        # The caller knows the kind of terminal.
        self._console = _Console(
            file=cast("IO[str]", _Terminal(write, encoding)),
            force_terminal=True,
            force_interactive=True,
            color_system="auto" if color else None,
            no_color=None if color else True,
        )
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
        )
        with self._console.lock:
            self._live.start()

    def step(self, step: Step, elapsed_seconds: float) -> None:
        """Redraw the block for the next replay."""
        when = time_words(step, elapsed_seconds, self._expected)
        left = step.left if step.left is not None else (self._expected or 0.0) - elapsed_seconds
        # Without an estimate there is no bar, rather than a full one.
        total = elapsed_seconds + left if left > 0 else None
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=total or 1.0, completed=elapsed_seconds, width=_BAR_COLUMNS)
            if total
            else "",
            Text(f"{round_words(step)}{self._dot}{when}", overflow="fold"),
        )
        test = Text(f"{short_name(step.nodeid)}{self._dot}{replay_words(step)}", overflow="fold")
        metrics = [Text(f"  {line}", overflow="fold") for line in open_lines(step)]
        # Taken before rich's own lock, as when another thread prints.
        with self._console.lock:
            self._live.update(Group(head, test, *metrics), refresh=True)

    def line(self, text: str) -> None:
        """Print a line above the block."""
        self._console.print(Text(printable(text)), soft_wrap=True)

    def close(self) -> None:
        """Remove the block; safe to call twice."""
        with self._console.lock:
            self._live.stop()
