"""What a measure stage is going to do, and what it will cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.measure.warmup import MIN_WARMUP
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig


@dataclass(frozen=True)
class Plan:
    """A measure stage before it starts.

    Attributes:
        workloads: by node id.
        recorded_seconds: how long each workload's generations took while recorded.
        start_seconds: how long one engine process takes to start and load.
        perf: how to measure: processes, iterations, warm-up, turns, severities.
        seed: of the random order.
        budget: seconds the stage may take.
        paired: whether two sides are compared.
        test_budgets: seconds that may go into replaying a test, by node id; a test
            that is not in it has no limit of its own.
    """

    workloads: dict[str, Workload]
    recorded_seconds: dict[str, float]
    start_seconds: float
    perf: PerfConfig
    seed: int
    budget: float
    paired: bool = False
    test_budgets: dict[str, float] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """Fewest fresh engine processes every workload is replayed in; of two sides, pairs."""
        return self.perf.processes

    @property
    def max_processes(self) -> int:
        """Most processes (pairs) that a workload which stays undecided is replayed in."""
        most = self.perf.max_pairs if self.paired else self.perf.max_processes
        return max(most, self.processes)

    @property
    def expected_seconds(self) -> float:
        """Expected wall time in seconds of the fewest processes, capped by nothing."""
        replays = MIN_WARMUP + self.perf.iterations
        once = sum(self.recorded_seconds.values())
        processes = self.processes * (2 if self.paired else 1)
        return processes * (self.start_seconds + once * replays)

    def describe(self) -> str:
        """Say in one line what is about to happen and what it costs."""
        tests, count = len(self.workloads), self.processes
        if self.paired:
            each = f"{count} pair{'s' if count != 1 else ''} of processes"
        else:
            each = f"{count} process{'es' if count != 1 else ''}"
        line = (
            f"{tests} test{'s' if tests != 1 else ''}, at least {each} each, "
            f"about {format_duration(self.expected_seconds)} at least"
        )
        if self.expected_seconds <= self.budget:
            return f"{line}, at most {format_duration(self.budget)} (perf.budget)"
        return (
            f"{line}; more than the budget of {format_duration(self.budget)}: what is not decided "
            "by then is inconclusive (perf.budget)"
        )
