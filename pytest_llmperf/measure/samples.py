"""What a measurement brought back: iterations, grouped by the process that ran them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_llmperf.environment.fitness import FitnessFinding


@dataclass(frozen=True)
class ProcessSample:
    """One test's iterations in one engine process; the process is the unit of replication.

    Attributes:
        process: number of the process in the session, from 0.
        iterations: one mapping of metric name to value (base units) per iteration.
        warmup: the same for the iterations that do not count.
        findings: what else the machine did meanwhile.
        void: why the sample must not be judged, or None.
    """

    process: int
    iterations: tuple[dict[str, float], ...]
    warmup: tuple[dict[str, float], ...] = ()
    findings: tuple[FitnessFinding, ...] = ()
    void: str | None = None


@dataclass
class TestSamples:
    """Everything measured for one test.

    Attributes:
        processes: valid samples, in order.
        voided: samples that must not be judged, kept to be counted and shown.
        error: what stopped the test from being measured at all.
        budget_reached: whether the time budget ended before enough processes had run.
    """

    __test__ = False

    processes: list[ProcessSample] = field(default_factory=list)
    voided: list[ProcessSample] = field(default_factory=list)
    error: str | None = None
    budget_reached: bool = False

    def values(self, metric: str) -> tuple[tuple[float, ...], ...]:
        """Return a metric's values, processes x iterations; empty where it is undefined."""
        rows = (
            tuple(values[metric] for values in sample.iterations if metric in values)
            for sample in self.processes
        )
        return tuple(row for row in rows if row)


@dataclass
class Measurement:
    """One measure stage.

    Attributes:
        tests: by node id.
        seed: of the random order.
        seconds: wall time of the stage.
        generating_seconds: the part of it spent inside generation, warm-up included.
        processes: engine processes started.
    """

    tests: dict[str, TestSamples]
    seed: int
    seconds: float = 0.0
    generating_seconds: float = 0.0
    processes: int = 0
