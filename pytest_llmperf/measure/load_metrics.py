"""Figures of a load: latencies, tokens, faults and goodput.

Latencies count from the moment at which a request was due. A server that stalls also delays the
requests that are due meanwhile, and a client that waits for the server before it sends the next
request must not hide that (coordinated omission: Tene, "How NOT to Measure Latency", 2013).
Latencies since the request was sent, which the server alone caused, are reported beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Literal

from pytest_llmperf.engine.server.load_result import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.measure.prompt_stalls import PromptStalls, prompt_stalls
from pytest_llmperf.measure.server_use import ServerUse
from pytest_llmperf.stats.percentiles import min_values, percentile

#: Start of a latency. ``due``: the scheduled time. ``sent``: when the request was written.
Since = Literal["due", "sent"]

PERCENTILES = (90.0, 95.0, 99.0)


@dataclass(frozen=True)
class LatencyDistribution:
    """Distribution of one latency over requests, seconds.

    Attributes:
        median: median of the values.
        percentiles: percentile by percent, if there are enough values.
    """

    median: float
    percentiles: Mapping[float, float]

    @classmethod
    def of(cls, values: Sequence[float]) -> LatencyDistribution | None:
        """Summarise values; None if there are none."""
        if not values:
            return None
        enough = (percent for percent in PERCENTILES if len(values) >= min_values(percent))
        return cls(median(values), {percent: percentile(values, percent) for percent in enough})


def _start(outcome: RequestOutcome, since: Since) -> float:
    return outcome.due if since == "due" or outcome.sent is None else outcome.sent


def first_token(outcome: RequestOutcome, since: Since = "due") -> float | None:
    """Return the seconds to the first chunk with output, reasoning included."""
    return outcome.times[0] - _start(outcome, since) if outcome.times else None


def first_answer_token(outcome: RequestOutcome, since: Since = "due") -> float | None:
    """Return the seconds to the first chunk of the answer, after any reasoning."""
    return None if outcome.first_answer is None else outcome.first_answer - _start(outcome, since)


def end_to_end(outcome: RequestOutcome, since: Since = "due") -> float | None:
    """Return the seconds to the last chunk with output."""
    return outcome.times[-1] - _start(outcome, since) if outcome.times else None


def time_per_output_token(outcome: RequestOutcome, _since: Since = "due") -> float | None:
    """Return the seconds per token after the first chunk, by the server's own count.

    The first chunk counts as one token unless the server reports how many it holds.
    """
    if outcome.tokens is None or len(outcome.times) < 2:
        return None
    after_first = outcome.tokens - (outcome.first_chunk_tokens or 1)
    return (outcome.times[-1] - outcome.times[0]) / after_first if after_first > 0 else None


#: Functions that compute each latency of a request, by name, in the order of tables.
LATENCIES: Mapping[str, Callable[[RequestOutcome, Since], float | None]] = {
    "first_token": first_token,
    "first_answer_token": first_answer_token,
    "time_per_output_token": time_per_output_token,
    "end_to_end": end_to_end,
}


def values_of(
    outcomes: Sequence[RequestOutcome], latency: str, since: Since = "due"
) -> tuple[float, ...]:
    """Return one latency of each request that has it, seconds."""
    values = (LATENCIES[latency](outcome, since) for outcome in outcomes)
    return tuple(value for value in values if value is not None)


def chunk_gaps(outcomes: Sequence[RequestOutcome]) -> tuple[float, ...]:
    """Return the seconds between the chunks (not tokens) of each answer, pooled."""
    return tuple(after - before for o in outcomes for before, after in pairwise(o.times))


@dataclass(frozen=True)
class LoadFigures:
    """Figures of a load.

    Attributes:
        requests: number of requests sent.
        answered: number of requests that got a complete answer.
        seconds: wall time from when the first request was due to when the last one ended.
        output_tokens: output tokens of answered requests, by the server's own count; None if it
            did not count them.
        from_schedule: latencies of answered requests from their scheduled start, by name.
        since_sent: the same latencies, since each request was sent.
        chunk_gap: seconds between chunks.
        slip: how much later than due the client sent each request.
        faults: number of requests without a complete answer, by kind of fault.
        client_busy: share of a core that the client used; of several processes, the busiest's.
        client_processes: number of client processes that sent the load.
        servers: the load by each server's own counters (or None), by its address.
        tokens_asked: output tokens that the server may have generated: those it counted, plus
            those requested by requests without a complete answer; None if any is unknown.
        stalls: delay of answers by other requests' prompts; None if it can't be determined.
    """

    requests: int
    answered: int
    seconds: float
    output_tokens: int | None
    from_schedule: Mapping[str, LatencyDistribution]
    since_sent: Mapping[str, LatencyDistribution]
    chunk_gap: LatencyDistribution | None
    slip: LatencyDistribution | None
    faults: Mapping[str, int]
    client_busy: float = 0.0
    client_processes: int = 1
    servers: Mapping[str, ServerSide | None] = field(default_factory=dict)
    tokens_asked: int | None = None
    stalls: PromptStalls | None = None

    @property
    def client_ceiling(self) -> float | None:
        """Requests per second at which the client would use a whole core; None if unknown.

        Of several client processes, the busiest one's core.
        """
        busy_seconds = self.seconds * self.client_busy
        return self.requests / busy_seconds if busy_seconds > 0 else None

    @property
    def use(self) -> ServerUse:
        """The load's requests, with the servers' own counters."""
        return ServerUse(self.servers, self.answered, self.output_tokens or 0, self.tokens_asked)


def load_figures(result: LoadResult) -> LoadFigures:
    """Return the figures of a load."""
    answered = result.answered
    return LoadFigures(
        requests=len(result.outcomes),
        answered=len(answered),
        seconds=result.window[1] - result.window[0],
        output_tokens=_sum([outcome.tokens for outcome in answered]),
        from_schedule=_latencies(answered, "due"),
        since_sent=_latencies(answered, "sent"),
        chunk_gap=LatencyDistribution.of(chunk_gaps(answered)),
        slip=LatencyDistribution.of(slips(result)),
        faults=Counter(o.fault for o in result.outcomes if o.fault is not None),
        client_busy=result.busy,
        client_processes=result.clients,
        servers=result.servers,
        tokens_asked=_sum([o.tokens if o.is_answered else o.tokens_asked for o in result.outcomes]),
        stalls=prompt_stalls(answered),
    )


def good_answers(result: LoadResult, limits: Mapping[str, float]) -> int:
    """Return how many requests were answered within all limits.

    Args:
        result: result of the load.
        limits: largest latency of a good answer, from the scheduled start, by its name in
            ``LATENCIES``.
    """
    return sum(_is_good(outcome, limits) for outcome in result.answered)


def slips(result: LoadResult) -> tuple[float, ...]:
    """Return how much later than due the client sent each request, seconds."""
    return tuple(outcome.asked - outcome.due for outcome in result.outcomes)


def _sum(counts: Sequence[int | None]) -> int | None:
    """Return the sum of counts; None if any is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _is_good(outcome: RequestOutcome, limits: Mapping[str, float]) -> bool:
    """Whether an answer is within all limits; a single token has no time per output token."""
    for name, limit in limits.items():
        value = LATENCIES[name](outcome, "due")
        if value is None:
            if name != "time_per_output_token" or outcome.tokens is None or outcome.tokens > 1:
                return False
        elif value > limit:
            return False
    return True


def _latencies(outcomes: Sequence[RequestOutcome], since: Since) -> dict[str, LatencyDistribution]:
    distributions = {
        name: LatencyDistribution.of(values_of(outcomes, name, since)) for name in LATENCIES
    }
    return {name: values for name, values in distributions.items() if values is not None}
