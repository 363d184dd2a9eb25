"""Progress of the measure stage in words, and as occasional lines of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_llmperf.text import DOT, printable, wrap_words
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmperf.measure.rounds import Step

#: Seconds between two lines of a log.
_LINE_EVERY_SECONDS = 30.0
#: Number of undecided metrics of a test to list; the others are counted.
_MAX_METRICS = 3


class Progress(Protocol):
    """Shows the progress of measuring."""

    def step(self, step: Step, elapsed_seconds: float) -> None:
        """Show that a replay starts, ``elapsed_seconds`` after the stage began."""

    def line(self, text: str) -> None:
        """Show an extra line while the display goes on."""

    def close(self) -> None:
        """End the display; safe to call twice."""


class LogProgress:
    """Writes a line of progress every half minute, for a log.

    Args:
        write: writes text with its line breaks.
        width: columns of a line.
        expected_seconds: expected time for the minimum number of processes, seconds.
    """

    def __init__(
        self, write: Callable[[str], None], width: int = 80, expected_seconds: float | None = None
    ) -> None:
        self._write = write
        self._width = width
        self._expected = expected_seconds
        self._due = _LINE_EVERY_SECONDS

    def step(self, step: Step, elapsed_seconds: float) -> None:
        """Write a line if the last one is old enough."""
        if elapsed_seconds < self._due:
            return
        self._due = elapsed_seconds + _LINE_EVERY_SECONDS
        parts = (round_words(step), time_words(step, elapsed_seconds, self._expected))
        undecided = "; ".join(open_lines(step))
        text = DOT.join((*parts, f"{short_name(step.nodeid)}: {undecided}" if undecided else ""))
        for line in wrap_words(text.removesuffix(DOT), self._width):
            self.line(line)

    def line(self, text: str) -> None:
        """Write a line."""
        self._write(f"{printable(text)}\n")

    def close(self) -> None:
        """Do nothing: a log keeps its lines."""


def round_words(step: Step) -> str:
    """Name the running process, block or pair: ``process 2``; ``pair 4, candidate``."""
    if step.pair is None:
        return f"{step.unit} {step.process}"
    return f"pair {step.pair}, {printable(step.side)}"


def time_words(step: Step, elapsed_seconds: float, expected_seconds: float | None) -> str:
    """Give the time so far and the time left: ``20 s, about 40 s left``."""
    elapsed = format_duration(round(elapsed_seconds))
    if step.left is not None:
        return f"{elapsed}, about {_whole(step.left)} left"
    if expected_seconds is None or expected_seconds <= elapsed_seconds:
        return elapsed
    # How many processes there will be beyond the minimum is not known yet.
    return f"{elapsed}, at least {_whole(expected_seconds - elapsed_seconds)} left"


def replay_words(step: Step) -> str:
    """Name the replay: ``iteration 2/3``, ``warming up``."""
    return f"iteration {step.iteration}/{step.iterations}" if step.iteration else "warming up"


def short_name(nodeid: str) -> str:
    """Return a test's function and parameters, without its file and classes."""
    path, bracket, parameters = nodeid.partition("[")
    return printable(path.rsplit("::", 1)[-1] + bracket + parameters)


def open_lines(step: Step) -> Iterator[str]:
    """Yield a line per undecided metric; of many, the first few and a count."""
    yield from map(printable, step.open[:_MAX_METRICS])
    if (more := len(step.open) - _MAX_METRICS) > 0:
        yield f"and {more} more"


def _whole(seconds: float) -> str:
    return format_duration(max(round(seconds), 1))
