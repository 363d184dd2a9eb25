"""What a measurement brought back: iterations, grouped by the process that ran them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.gpu.summary import TelemetrySummary
from pytest_llmperf.metrics import percentile_parts

#: The sides of a comparison: what is judged, and what it is compared with.
CANDIDATE = "candidate"
BASE = "base"

#: One row of values per process; for a percentile, one row of one value per group of processes.
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ProcessSample:
    """One test's iterations in one engine process; the process is the unit of replication.

    Attributes:
        process: number of the process in the session, from 0.
        iterations: one mapping of metric name to value (base units) per iteration.
        warmup: the same for the iterations that do not count.
        findings: what else the machine did meanwhile.
        void: why the sample must not be judged, or None.
        side: CANDIDATE or BASE.
        pair: number of the pair the process belongs to, from 0; None without a base.
        pooled: raw seconds of the counted iterations: ``inter_token`` holds every gap,
            ``first_token`` every request's.
        undefined: why a metric that is measured beside the generations, or that a formula of
            another package or the project computes, has no value.
        telemetry: what the GPUs did while it decoded, or None.
        beside: iteration by iteration it took turns with the other process of its pair.
    """

    process: int
    iterations: tuple[dict[str, float], ...]
    warmup: tuple[dict[str, float], ...] = ()
    findings: tuple[FitnessFinding, ...] = ()
    void: str | None = None
    side: str = CANDIDATE
    pair: int | None = None
    pooled: dict[str, tuple[float, ...]] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    telemetry: TelemetrySummary | None = None
    beside: bool = False

    def row(self, metric: str) -> tuple[float, ...]:
        """Return a metric's value of each iteration that defines it."""
        return tuple(values[metric] for values in self.iterations if metric in values)

    def has_neighbours(self, metric: str) -> bool:
        """Whether every value of a metric has one of the other process right before or after."""
        return self.beside and len(self.row(metric)) == len(self.iterations)


@dataclass
class TestSamples:
    """Everything measured for one test.

    Attributes:
        processes: valid samples of all sides, in order.
        voided: samples that must not be judged, kept to be counted and shown.
        error: what stopped the test from being measured at all.
        budget_reached: whether a time budget ended before the test was decided.
        own_budget: it was the test's own, not the session's.
        unfit: whether it was given up because too many samples were void.
        seconds: wall time spent replaying it, warm-up included.
        earlier: how many of the pairs an earlier session measured.
    """

    __test__ = False

    processes: list[ProcessSample] = field(default_factory=list)
    voided: list[ProcessSample] = field(default_factory=list)
    error: str | None = None
    budget_reached: bool = False
    own_budget: bool = False
    unfit: bool = False
    seconds: float = 0.0
    earlier: int = 0

    def of_this_session(self) -> TestSamples:
        """Return the samples without the pairs of earlier sessions."""
        own = [sample for sample in self.processes if sample.process >= 0]
        return replace(self, processes=own, earlier=0)

    def of_arm(self, side: str) -> TestSamples:
        """Return the samples of one side only."""
        valid, void = (
            [s for s in every if s.side == side] for every in (self.processes, self.voided)
        )
        return replace(self, processes=valid, voided=void)

    @property
    def pairs(self) -> int:
        """Complete pairs: both processes valid."""
        return sum(1 for _ in self._pairs())

    @property
    def good(self) -> int:
        """How many a verdict may rest on: complete pairs of two sides, processes of one."""
        both = (*self.processes, *self.voided)
        return self.pairs if any(s.pair is not None for s in both) else len(self.processes)

    @property
    def void_pairs(self) -> int:
        """Pairs that do not count because a process of theirs was void."""
        return len({sample.pair for sample in self.voided if sample.pair is not None})

    def values(self, metric: str, side: str = CANDIDATE) -> Rows:
        """Return an side's values of a metric, processes x iterations.

        A percentile (``inter_token_p95``) has one value per group of consecutive processes.
        Empty where the metric is undefined or there are too few values for the percentile.
        """
        if (parts := percentile_parts(metric)) is not None:
            return _percentiles(self.pooled_rows(parts[0], side), parts[1])
        rows = (sample.row(metric) for sample in self.processes if sample.side == side)
        return tuple(row for row in rows if row)

    def paired(self, metric: str) -> tuple[Rows, Rows]:
        """Return the values (candidate, base) of a metric by complete pair, as ``values`` does.

        Both have as many rows, the same pair's (the same group of pairs') in the same place.
        """
        if (parts := percentile_parts(metric)) is not None:
            candidate, base = (_percentiles(r, parts[1]) for r in self.paired_pooled(parts[0]))
            groups = min(len(candidate), len(base))
            return candidate[:groups], base[:groups]
        return _apart((a.row(metric), b.row(metric)) for a, b in self._pairs())

    def beside(self, metric: str) -> tuple[bool, ...]:
        """Return of each pair in ``paired`` whether its processes took turns by iterations.

        Empty for a percentile, whose values are no iterations.
        """
        if percentile_parts(metric) is not None:
            return ()
        return tuple(
            a.has_neighbours(metric) and b.has_neighbours(metric)
            for a, b in self._pairs()
            if a.row(metric) and b.row(metric)
        )

    def pooled_rows(self, source: str, side: str) -> Rows:
        """Return an side's raw values of ``source``, a row of seconds per process."""
        rows = (sample.pooled.get(source, ()) for sample in self.processes if sample.side == side)
        return tuple(row for row in rows if row)

    def paired_pooled(self, source: str) -> tuple[Rows, Rows]:
        """Return the raw values (candidate, base) of ``source``, a row per complete pair."""
        return _apart(
            (a.pooled.get(source, ()), b.pooled.get(source, ())) for a, b in self._pairs()
        )

    def _pairs(self) -> Iterator[tuple[ProcessSample, ProcessSample]]:
        """Yield (candidate, base) of every complete pair, in order."""
        halves: dict[int, ProcessSample] = {}
        for sample in self.processes:
            if sample.pair is None:
                continue
            other = halves.pop(sample.pair, None)
            if other is None:
                halves[sample.pair] = sample
            else:
                yield (sample, other) if sample.side == CANDIDATE else (other, sample)


def _apart(pairs: Iterator[tuple[tuple[float, ...], tuple[float, ...]]]) -> tuple[Rows, Rows]:
    """Return the rows of either side, of the pairs where both are defined."""
    both = [(a, b) for a, b in pairs if a and b]
    return tuple(a for a, _ in both), tuple(b for _, b in both)


def _percentiles(rows: Rows, percent: float) -> Rows:
    from pytest_llmperf.stats.percentiles import pooled

    return pooled(rows, percent)


@dataclass
class Measurement:
    """One measure stage.

    Attributes:
        tests: by node id.
        seed: of the random order.
        seconds: wall time of the stage.
        generating_seconds: the part of it spent inside generation, warm-up included.
        processes: engine processes started.
        waited: the part of ``seconds`` spent waiting for the machine to be fit.
        loaded: what the newest engine of each side said after loading.
        apart: why processes that had room side by side were kept apart after all; or empty.
    """

    tests: dict[str, TestSamples]
    seed: int
    seconds: float = 0.0
    generating_seconds: float = 0.0
    processes: int = 0
    waited: float = 0.0
    loaded: Mapping[str, EngineInfo] = field(default_factory=dict)
    apart: str = ""

    @property
    def spent(self) -> float:
        """Seconds of the budget that the stage took: waiting is no part of it."""
        return self.seconds - self.waited
