"""A run: one replay of a workload, with the timelines, due times and send times of its requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

from pytest_llmperf.timeline import Timeline


class Dispatch(NamedTuple):
    """Due time and send time of a request: seconds on the timelines' clock."""

    due: float
    sent: float


@dataclass(frozen=True)
class Run(Sequence[Timeline]):
    """One replay of a workload, from its first request to the end of its last answer.

    A run reads as the sequence of its timelines, so a formula over timelines takes it as it is.

    Attributes:
        timelines: timelines of its requests, in the workload's order.
        schedule: due and send times of its requests, in the same order.
        window: start of the first request and end of the last answer, seconds on the timelines'
            clock; the window of ``without_pauses()`` has no pauses between turns.
        sent: number of requests of a load, those without a complete answer included; None if the
            requests were sent one at a time.
        good: number of a load's answers within the test's own limits; None if it has none.
    """

    timelines: tuple[Timeline, ...]
    schedule: tuple[Dispatch, ...]
    window: tuple[float, float]
    sent: int | None = None
    good: int | None = None

    @classmethod
    def in_order(cls, timelines: Iterable[Timeline]) -> Run:
        """Return the run of requests sent one at a time, each due when the last had ended."""
        given = tuple(timelines)
        ends = [_end(timeline) for timeline in given]
        due = [timeline.t_start for timeline in given[:1]] + ends[:-1]
        schedule = (Dispatch(at, timeline.t_start) for at, timeline in zip(due, given, strict=True))
        window = (given[0].t_start, ends[-1]) if given else (0.0, 0.0)
        return cls(given, tuple(schedule), window)

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.window[1] - self.window[0]

    def without_pauses(self) -> Run:
        """Return the run of the engine's own turns, without the pauses between them."""
        pauses = [pause for timeline in self.timelines for pause in timeline.pauses]
        if not pauses:
            return self
        begin, end = self.window
        return replace(
            self,
            timelines=tuple(timeline.without_pauses() for timeline in self.timelines),
            window=(begin, end - sum(b - a for a, b in pauses)),
        )

    @overload
    def __getitem__(self, index: int) -> Timeline: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Timeline]: ...

    def __getitem__(self, index: int | slice) -> Timeline | Sequence[Timeline]:
        return self.timelines[index]

    def __len__(self) -> int:
        return len(self.timelines)


def _end(timeline: Timeline) -> float:
    return timeline.token_times[-1] if timeline.token_times else timeline.t_start
