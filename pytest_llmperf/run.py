"""A run: one replay of a workload, with its requests' timelines and when each was due and sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

from pytest_llmperf.timeline import Timeline


class Dispatch(NamedTuple):
    """When a request was due, and when it was sent: seconds on the timelines' clock."""

    due: float
    sent: float


@dataclass(frozen=True)
class Run(Sequence[Timeline]):
    """One replay of a workload, from its first request to the end of its last answer.

    A run reads as the sequence of its timelines, so a formula over timelines takes it as it is.

    Attributes:
        timelines: of its requests, in the workload's order.
        schedule: of its requests, in the same order.
        window: start of the first request and end of the last answer, seconds on the timelines'
            clock. Pauses between turns are taken out of ``own``'s.
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
        """Return the run of requests sent one at a time, each due when the one before had ended."""
        found = tuple(timelines)
        ends = [_end(one) for one in found]
        due = [one.t_start for one in found[:1]] + ends[:-1]
        schedule = (Dispatch(at, one.t_start) for at, one in zip(due, found, strict=True))
        window = (found[0].t_start, ends[-1]) if found else (0.0, 0.0)
        return cls(found, tuple(schedule), window)

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.window[1] - self.window[0]

    def own(self) -> Run:
        """Return the run of the engine's own turns, without the pauses between them."""
        pauses = [pause for one in self.timelines for pause in one.pauses]
        if not pauses:
            return self
        begin, end = self.window
        return replace(
            self,
            timelines=tuple(one.own() for one in self.timelines),
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
