"""The sides of a measure stage, and the random order of their processes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.measure.fresh_model import start_engine
from pytest_llmperf.measure.workload import Workload


class StartEngine(Protocol):
    """Starts a fresh engine process."""

    def __call__(self, spec: LaunchSpec | None = None) -> EngineClient:
        """Start a process with the settings of ``spec``; None: with the side's own.

        Raises:
            EngineError: the process can't be started.
        """
        ...


def starter_of(own: LaunchSpec) -> StartEngine:
    """Return a function that starts processes with its spec, or with ``own`` without one."""

    def start(spec: LaunchSpec | None = None) -> EngineClient:
        return start_engine(spec or own)

    return start


@dataclass(frozen=True)
class Side:
    """One side of a measure stage: a configuration and its engine processes.

    Attributes:
        role: CANDIDATE or BASE.
        name: its name in messages, for example ``base (other.yaml)``.
        start: starts a fresh engine process.
        own_workloads: workloads that differ from the plan's on this side, by node id; None for
            a test that this side does not have.
        specs: settings of each test, by node id; empty if all tests have the side's own.
    """

    role: str
    name: str
    start: StartEngine
    own_workloads: Mapping[str, Workload | None] = field(default_factory=dict)
    specs: Mapping[str, LaunchSpec] = field(default_factory=dict)

    def workload(self, nodeid: str, planned: Workload) -> Workload | None:
        """Return this side's workload of a test; None if it has no such test."""
        return self.own_workloads.get(nodeid, planned)


def rounds_of(sides: Sequence[Side], order: random.Random) -> Iterator[tuple[Side, ...]]:
    """Yield the sides of each round in the order to run them, endlessly.

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
