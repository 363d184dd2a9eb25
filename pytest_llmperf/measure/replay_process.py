"""The engine process that replays a test, and its place in the session."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.measure.workload import Workload


@dataclass(frozen=True)
class Step:
    """Progress of the measure stage, reported before each replay.

    ``process`` and ``pair`` count from 1; ``iteration`` is None while warming up.
    ``processes`` is the planned minimum; ``side`` is CANDIDATE or BASE, and ``pair`` is None
    without a comparison. ``open`` describes the test's undecided metrics; ``left`` is the expected
    number of seconds that all tests still need, or None if unknown. ``unit`` is the noun for the
    processes that are counted.
    """

    process: int
    processes: int
    nodeid: str
    iteration: int | None
    iterations: int
    side: str
    pair: int | None
    open: tuple[str, ...] = ()
    left: float | None = None
    unit: str = "process"


@dataclass(frozen=True)
class ReplaySlot:
    """Place of an engine process in the session; processes and pairs count from 0."""

    process: int
    side: str
    pair: int | None


@dataclass(frozen=True)
class ReplayProcess:
    """An engine process that replays a test, and the test's workload."""

    client: EngineClient
    slot: ReplaySlot
    workload: Workload


class ReplayError(Exception):
    """An engine could not start, or refused or failed a request.

    Attributes:
        side: the engine's side.
        error: the engine's error.
    """

    def __init__(self, side: str, error: EngineError) -> None:
        super().__init__(str(error))
        self.side = side
        self.error = error
