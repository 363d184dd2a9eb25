"""The sides of a measure stage, and the random order of their processes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.measure.workload import Workload


@dataclass(frozen=True)
class Side:
    """One side of a measure stage: a configuration and its engine processes.

    Attributes:
        role: CANDIDATE or BASE.
        name: its name in messages, for example ``base (other.yaml)``.
        start: starts a fresh engine process.
        own_workloads: by node id, workloads of tests that differ from the plan's on this
            side; None for a test that this side does not have.
    """

    role: str
    name: str
    start: Callable[[], EngineClient]
    own_workloads: Mapping[str, Workload | None] = field(default_factory=dict)

    def workload(self, nodeid: str, planned: Workload) -> Workload | None:
        """Return this side's workload of a test; None if it has no such test."""
        return self.own_workloads.get(nodeid, planned)


def rounds_of(sides: Sequence[Side], order: random.Random) -> Iterator[tuple[Side, ...]]:
    """Yield endlessly the sides of each round in the order to run them.

    Two sides run in random blocks of two pairs, ABBA or BAAB: steady drift cancels within a
    block, and carry-over from one process to the next affects both sides alike.
    """
    if len(sides) == 1:
        while True:
            yield tuple(sides)
    while True:
        first, second = order.sample(list(sides), 2)
        yield first, second
        yield second, first
