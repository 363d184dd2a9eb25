"""Measurements of one test in one engine process: iterations, and turns within them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import AfterValidator

from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.machine.fitness import FitnessFinding, with_severities
from pytest_llmperf.machine.gpu.summary import TelemetrySummary
from pytest_llmperf.measure.load_metrics import LoadFigures
from pytest_llmperf.measure.server_use import ServerUse
from pytest_llmperf.metrics import LARGEST, is_plausible, known_metric
from pytest_llmperf.stats.summary import stalls
from pytest_llmperf.stored_json import LEFT_OUT, Number, Stored, expect, unexpected

#: The sides of a comparison: the side to judge, and the side it is compared with.
CANDIDATE = "candidate"
BASE = "base"


#: Metrics decided by the turns of decode, and the metric decided by these and first tokens.
DECODE_METRICS = frozenset({"tokens_per_sec", "time_per_output_token"})
WHOLE = "end_to_end"

#: Duration of turns; above 0, because its logarithm is compared.
_Seconds = Annotated[
    Number, expect("seconds that can have been measured", lambda value: 0 < value <= LARGEST)
]


def metric_values(values: Mapping[str, float | tuple[float, ...]]) -> Mapping[str, Any]:
    """Return stored values by metric, after checking that each metric can have its values.

    Raises:
        ItemError: a metric can't have a value.
    """
    for name, stored in values.items():
        # The package that registered the metric may be gone.
        metric = known_metric(name)
        for value in stored if isinstance(stored, tuple) else (stored,):
            if not (metric.allows(value) if metric else value == 0 or is_plausible(value)):
                raise unexpected("a value that the metric can have", value, name)
    return values


@dataclass(frozen=True)
class TurnSamples(Stored):
    """Measurements of a process that took turns within generations with the other of its pair.

    Value i of either process was measured right before or after value i of the other.

    Attributes:
        decode: seconds per decode step, by turn.
        steps: number of decode steps of all requests.
        first_tokens: sum of the requests' times to the first token, by replay.
        values: values of every other metric, by replay.
        partial: seconds of each replay of the prompt alone and of decode alone, by part.
    """

    decode: tuple[_Seconds, ...] = ()
    steps: int = 0
    first_tokens: tuple[_Seconds, ...] = ()
    values: Annotated[dict[str, tuple[Number, ...]], AfterValidator(metric_values)] = field(
        default_factory=dict
    )
    partial: dict[str, tuple[_Seconds, ...]] = field(default_factory=dict, metadata=LEFT_OUT)

    def turns_per_replay(self) -> int:
        """Return the number of turns of decode in each replay; 1 if unknown."""
        replays = len(self.values.get("time_per_output_token", ())) or len(self.decode)
        return len(self.decode) // replays if replays and len(self.decode) % replays == 0 else 1

    def has(self, metric: str) -> bool:
        """Whether the turns measured a metric."""
        if metric in DECODE_METRICS:
            return bool(self.decode)
        if metric == WHOLE:
            return bool(self.first_tokens) and (bool(self.decode) or not self.steps)
        return bool(self.values.get(metric))


@dataclass(frozen=True)
class ProcessSample:
    """One test's iterations in one engine process; the process is the unit of replication.

    Attributes:
        process: number of the process in the session, from 0.
        iterations: one mapping of metric name to value (base units) per iteration.
        warmup: the same for the warm-up iterations.
        findings: fitness findings during the replays.
        void: why the sample must not be judged, or None.
        disturbed: what disturbed both processes of the pair alike, so that only their difference
            may be judged; or empty.
        overloaded: why the sample must not be judged if the pair's other side is overloaded, too;
            or empty.
        load: figures of its load; None if its requests were sent one at a time.
        use: its requests to servers, and the servers' own counters; None if requests were sent one
            at a time and no server's counters are known.
        cache_share: share of the prompt tokens that a server's cache served; None if unknown.
        cpu_mhz: the CPU's clock, MHz; None if unknown, or if the engine may compute elsewhere.
        side: CANDIDATE or BASE.
        pair: number of the pair the process belongs to, from 0; None without a base.
        pooled: raw seconds of the counted iterations: ``inter_token`` holds every gap,
            ``first_token`` and, under load, ``request_latency`` every request's.
        gap_counts: how many values of ``pooled["inter_token"]`` belong to each request, by counted
            iteration; empty if unknown.
        undefined: by name, why a metric that is measured beside the generations, or computed by a
            formula of another package or the project, has no value.
        telemetry: the GPUs' counters while it decoded, or None.
        in_iteration_turns: whether it took turns by iterations with the other process of its pair.
        turns: what it measured in turns of tokens, besides its own iterations; or None.
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
    in_iteration_turns: bool = False
    turns: TurnSamples | None = None
    disturbed: str = ""
    overloaded: str = ""
    load: LoadFigures | None = None
    use: ServerUse | None = None
    cache_share: float | None = None
    cpu_mhz: float | None = None
    gap_counts: tuple[tuple[int, ...], ...] = ()

    def row(self, metric: str) -> tuple[float, ...]:
        """Return a metric's values from all iterations in which it is defined."""
        return tuple(values[metric] for values in self.iterations if metric in values)

    def durations(self) -> tuple[float, ...]:
        """Return the end-to-end seconds of all replays, those in turns of tokens included."""
        own = self.row("end_to_end")
        return own if self.turns is None else (*own, *self.turns.values.get("end_to_end", ()))

    def stalls(self) -> int:
        """Return how many replays took over 1.25 times the median of replays of the same part."""
        partial = () if self.turns is None else self.turns.partial.values()
        rows = [row for row in (self.durations(), *partial) if row]
        return stalls(rows) if rows else 0

    def has_neighbours(self, metric: str) -> bool:
        """Whether every value of a metric has an adjacent one from the other process."""
        return self.in_iteration_turns and len(self.row(metric)) == len(self.iterations)


def with_finding(
    halves: Sequence[ProcessSample],
    finding: FitnessFinding,
    severities: Mapping[str, Severity],
) -> list[ProcessSample]:
    """Return both samples of a pair with a finding about the pair, which may void them.

    ``severities``: severity by check, as configured in ``perf.fitness``.
    """
    (rated,) = with_severities([finding], severities)
    void = str(rated) if rated.severity == "invalid" else None
    return [replace(h, findings=(rated, *h.findings), void=h.void or void) for h in halves]
