"""Results of a test's loads for reports: its requests, and how well the client kept up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.gate.words import count, listed, percent
from pytest_llmperf.measure.load_metrics import LoadFigures
from pytest_llmperf.measure.load_pattern import LoadPattern
from pytest_llmperf.measure.samples import CANDIDATE, ProcessSample
from pytest_llmperf.session.server_lines import server_lines
from pytest_llmperf.units import format_duration


@dataclass(frozen=True)
class ShownLoad:
    """The loads of a test's own side, together. All times are seconds.

    Attributes:
        pattern: how requests were sent, in words.
        arrivals: kind of the pattern.
        concurrency: number of requests in flight, for a closed load.
        rate: requests per second, if the pattern has a rate.
        loads: number of valid loads.
        requests: number of requests in all of them.
        faults: number of requests without a complete answer, by kind.
        first_token_since_sent: median of the loads' medians, without the time a request waited to
            be sent; None if nothing was answered.
        request_latency_since_sent: the same to the last token.
        slip: 95th percentile of how late requests were sent, the worst load's; None if a load has
            too few requests.
        client_busy: share of a core that the client used, in the worst load; of several
            processes, the busiest counts.
        client_processes: number of processes that sent the requests.
        client_ceiling: rate of such requests, per second, that would fill that core, the lowest
            of all loads; None if unknown.
        chunk_gap: median of the loads' median times between chunks; a chunk is not a token.
        server: what the server's own counters say of the loads, in words; empty if it has none.
        counters: these counters for each load, by the server's address; None without counters.
    """

    pattern: str
    arrivals: str
    concurrency: int | None
    rate: float | None
    loads: int
    requests: int
    faults: dict[str, int] = field(default_factory=dict)
    first_token_since_sent: float | None = None
    request_latency_since_sent: float | None = None
    slip: float | None = None
    client_busy: float = 0.0
    client_processes: int = 1
    client_ceiling: float | None = None
    chunk_gap: float | None = None
    server: tuple[str, ...] = ()
    counters: tuple[Mapping[str, ServerSide | None], ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines for reports; none without a valid load."""
        return (self._line, *self.server) if self.loads else ()

    @property
    def _line(self) -> str:
        failed = sum(self.faults.values())
        parts = [
            f"load: {count(self.requests, 'request')} in {count(self.loads, 'load')}, "
            f"{failed or 'none'} failed"
        ]
        if failed:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.faults.items()))
            parts[0] += f" ({kinds})"
        since_sent = {
            "first token": self.first_token_since_sent,
            "request latency": self.request_latency_since_sent,
        }
        known = [f"{name} {format_duration(s)}" for name, s in since_sent.items() if s is not None]
        if known:
            parts.append(f"since sending: {listed(known)}")
        if self.slip is not None:
            parts.append(f"95% sent at most {format_duration(self.slip)} late")
        parts.append(self._client)
        return "; ".join(parts)

    @property
    def _client(self) -> str:
        """How busy the client was, and the rate that would fill its core."""
        number = self.client_processes
        who = "the client" if number == 1 else f"the busiest of {number} client processes"
        text = f"{who} used {percent(self.client_busy)} of a core"
        if self.client_ceiling is None:
            return text
        return f"{text} (ceiling: about {_rough(self.client_ceiling)} such requests/s)"


def shown_load(pattern: LoadPattern, processes: Sequence[ProcessSample]) -> ShownLoad | None:
    """Return the results of a test's loads by the candidate's valid samples; None without load."""
    if not pattern.is_load:
        return None
    figures = [s.load for s in processes if s.side == CANDIDATE and s.load is not None]
    faults: Counter[str] = Counter()
    for load in figures:
        faults.update(load.faults)
    slips = [load.slip.percentiles.get(95.0) for load in figures if load.slip is not None]
    known = [slip for slip in slips if slip is not None]
    ceilings = [load.client_ceiling for load in figures if load.client_ceiling is not None]
    return ShownLoad(
        pattern=str(pattern),
        arrivals=pattern.arrivals,
        concurrency=pattern.concurrency,
        rate=pattern.rate,
        loads=len(figures),
        requests=sum(load.requests for load in figures),
        faults=dict(faults),
        first_token_since_sent=_median_of_medians(figures, "first_token"),
        request_latency_since_sent=_median_of_medians(figures, "end_to_end"),
        slip=max(known) if known and len(known) == len(figures) else None,
        client_busy=max((load.client_busy for load in figures), default=0.0),
        client_processes=max((load.client_processes for load in figures), default=1),
        client_ceiling=min(ceilings, default=None),
        chunk_gap=_median([f.chunk_gap.median for f in figures if f.chunk_gap is not None]),
        server=server_lines([load.use for load in figures]),
        counters=tuple(load.servers for load in figures),
    )


def _median_of_medians(figures: Sequence[LoadFigures], latency: str) -> float | None:
    latencies = [load.since_sent.get(latency) for load in figures]
    return _median([summary.median for summary in latencies if summary is not None])


def _rough(rate: float) -> str:
    """Return a rate to two digits, as it is extrapolated: ``1,200``."""
    return f"{float(f'{rate:.2g}'):,g}"


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
