"""Live progress while rounds run: one line that is redrawn, or one line per round in a log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmperf.text import display_width, printable
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_SEPARATOR = " · "
#: Lines of the first rounds in a log, and seconds between those of later ones.
_FIRST_LINES, _LINE_EVERY_S = 4, 30.0
#: Columns of a test's name for which other parts give way.
_MIN_NAME = 8


class Progress:
    """Shows the progress of measuring, through ``write``.

    ``live``: the output is a terminal, whose current line may be redrawn with
    a carriage return; otherwise every round gets one line of its own.
    ``width``: columns of the terminal.
    """

    def __init__(self, write: Callable[[str], None], *, live: bool, width: int = 80) -> None:
        self._write = write
        self._live = live
        self._width = width
        self._shown = 0
        self._round = ""
        self._expected_seconds: float | None = None
        self._open = ""
        self._left: float | None = None
        self._logged, self._lines = -math.inf, 0

    def note_open(self, text: str, left_seconds: float | None) -> None:
        """Note what is undecided of the next test, and the seconds that all will take."""
        self._open, self._left = printable(text), left_seconds

    def start_process(
        self, number: int, elapsed_seconds: float, expected_seconds: float | None = None
    ) -> None:
        """One more engine process starts; ``number`` counts from 1.

        How many there will be nobody knows: what is undecided goes on. ``elapsed_seconds``:
        seconds of measuring so far. ``expected_seconds``: what the fewest processes were
        expected to take, if known.
        """
        self._expected_seconds = expected_seconds
        self._start(f"process {number}", "", elapsed_seconds)

    def start_pair(
        self, number: int, side: str, elapsed_seconds: float, expected_seconds: float | None = None
    ) -> None:
        """One more process of pair ``number`` (from 1) starts, of the ``side`` it is for.

        Otherwise as ``start_process``.
        """
        self._expected_seconds = expected_seconds
        self._start(f"pair {number}", f", {printable(side)}", elapsed_seconds)

    def iteration(self, nodeid: str, number: int, total: int, elapsed_seconds: float) -> None:
        """One more replay of ``nodeid`` starts; ``number`` counts from 1, 0 is warming up."""
        if self._live:
            name = printable(nodeid.partition("[")[0].rsplit("::", 1)[-1] + _parameters(nodeid))
            step = f"iteration {number}/{total}" if number else "warming up"
            # What is open matters more than the replay's number, and both seldom fit.
            self._draw((name, *(self._undecided() or (step,))), elapsed_seconds)

    def close(self) -> None:
        """Remove the live line; safe to call twice."""
        if self._shown:
            self._write("\r" + " " * self._shown + "\r")
            self._shown = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, name: str, side: str, elapsed_seconds: float) -> None:
        begun, self._round = self._round, name + side
        if self._live:
            self._draw(("loading", *self._undecided()), elapsed_seconds)
        elif begun.partition(",")[0] != name and self._is_due(elapsed_seconds):
            parts = (name, *self._undecided(), self._time(elapsed_seconds))
            self._write(_SEPARATOR.join(parts) + "\n")

    def _is_due(self, elapsed_seconds: float) -> bool:
        """Whether a log gets another line: the first few rounds, then one every half a minute."""
        if self._lines >= _FIRST_LINES and elapsed_seconds < self._logged + _LINE_EVERY_S:
            return False
        self._lines, self._logged = self._lines + 1, elapsed_seconds
        return True

    def _undecided(self) -> tuple[str, ...]:
        left = self._left
        about = "" if left is None else f"about {format_duration(max(round(left), 1))} left"
        return tuple(filter(None, (self._open, about)))

    def _time(self, elapsed_seconds: float) -> str:
        elapsed, expected = format_duration(round(elapsed_seconds)), self._expected_seconds
        if expected is None or elapsed_seconds > expected:
            return elapsed
        return f"{elapsed} of at least {format_duration(round(expected))}"

    def _draw(self, parts: tuple[str, ...], elapsed_seconds: float) -> None:
        """Redraw the line; it must never wrap, a wrapped line can't be taken back."""
        name, *steps = parts
        rest = steps if self._left is not None else [*steps, self._time(elapsed_seconds)]
        room = self._room(rest)
        if room < _MIN_NAME and len(rest) > 1:
            # Of several metrics the first one; the others follow when it is decided.
            rest[0] = rest[0].partition("], ")[0].rstrip("]") + "]" * ("]" in rest[0])
            room = self._room(rest)
        line = _SEPARATOR.join([self._round, _shorten(name, room), *rest])
        line = _shorten(line, self._width - 1)
        columns = display_width(line)
        self._write("\r" + line + " " * max(0, self._shown - columns))
        self._shown = columns

    def _room(self, rest: Sequence[str]) -> int:
        """Return the columns that are left for the test's name."""
        return self._width - 1 - display_width(_SEPARATOR.join([self._round, "", *rest]))


def _parameters(nodeid: str) -> str:
    _, bracket, rest = nodeid.partition("[")
    return bracket + rest


def _shorten(text: str, room: int) -> str:
    """The end of ``text`` that fits; names that differ in their parameters differ there."""
    if display_width(text) <= room:
        return text
    while text and display_width(text) > room - 1:
        text = text[1:]
    return f"…{text}" if room > 0 else ""
