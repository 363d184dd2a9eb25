"""What a measure stage is going to do, and what it will cost."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.measure.warmup import MIN_WARMUP
from pytest_llmperf.measure.workload import Workload


@dataclass(frozen=True)
class Plan:
    """A measure stage before it starts.

    Attributes:
        workloads: by node id.
        recorded_seconds: how long each workload's generations took while recorded.
        start_seconds: how long one engine process takes to start and load.
        processes: fresh engine processes every workload is replayed in.
        iterations: counted replays per process.
        warmup_max: most replays per process that may go into warming up.
        budget: seconds the stage may take.
        seed: of the random order.
    """

    workloads: dict[str, Workload]
    recorded_seconds: dict[str, float]
    start_seconds: float
    processes: int
    iterations: int
    warmup_max: int
    budget: float
    seed: int

    @property
    def expected_seconds(self) -> float:
        """Expected wall time in seconds, capped by nothing."""
        replays = MIN_WARMUP + self.iterations
        once = sum(self.recorded_seconds.values())
        return self.processes * (self.start_seconds + once * replays)

    def describe(self) -> str:
        """Say in one line what is about to happen and what it costs."""
        tests = len(self.workloads)
        line = (
            f"{tests} test{'s' if tests != 1 else ''}, {self.processes} "
            f"process{'es' if self.processes != 1 else ''} each, "
            f"about {_readable(self.expected_seconds)}"
        )
        if self.expected_seconds > self.budget:
            line += (
                f"; more than the budget of {_readable(self.budget)}: what is not decided by then "
                "is inconclusive (perf.budget)"
            )
        return line


def _readable(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1.0):.0f} s"
    return f"{seconds / 60:.0f} min"
