"""The arms of a measure stage, and the random order in which two of them take turns."""

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
        own_workloads: of the tests that ask for other work in this arm than the plan says,
            by node id; None for a test that this arm does not have.
    """

    role: str
    name: str
    start: Callable[[], EngineClient]
    own_workloads: Mapping[str, Workload | None] = field(default_factory=dict)

    def workload(self, nodeid: str, planned: Workload) -> Workload | None:
        """Return what this arm replays for a test; None where it has no such test."""
        return self.own_workloads.get(nodeid, planned)


def turns(arms: Sequence[Side], order: random.Random) -> Iterator[tuple[Side, ...]]:
    """Yield, without end, the arms of each round in the order they are to run.

    Two arms run in blocks of two pairs, ABBA or BAAB by the toss of a coin: what drifts
    steadily cancels within a block, and what one process leaves to the next is carried
    over either way alike.
    """
    if len(arms) == 1:
        while True:
            yield tuple(arms)
    while True:
        first, second = order.sample(list(arms), 2)
        yield first, second
        yield second, first
