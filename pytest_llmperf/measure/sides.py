"""The sides of a measure stage, and the random order in which two of them take turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.measure.workload import Workload


@dataclass(frozen=True)
class Side:
    """One configuration that is measured.

    Attributes:
        role: CANDIDATE or BASE.
        name: what messages call it, for example ``base (other.yaml)``.
        start: starts one fresh engine process of it.
        own_workloads: of the tests that ask for other work in this side than the plan says,
            by node id; None for a test that this side does not have.
    """

    role: str
    name: str
    start: Callable[[], EngineClient]
    own_workloads: Mapping[str, Workload | None] = field(default_factory=dict)

    def workload(self, nodeid: str, planned: Workload) -> Workload | None:
        """Return what this side replays for a test; None where it has no such test."""
        return self.own_workloads.get(nodeid, planned)


def turns(sides: Sequence[Side], order: random.Random) -> Iterator[tuple[Side, ...]]:
    """Yield, without end, the sides of each round in the order they are to run.

    Two sides run in blocks of two pairs, ABBA or BAAB by the toss of a coin: what drifts
    steadily cancels within a block, and what one process leaves to the next is carried
    over either way alike.
    """
    if len(sides) == 1:
        while True:
            yield tuple(sides)
    while True:
        first, second = order.sample(list(sides), 2)
        yield first, second
        yield second, first
