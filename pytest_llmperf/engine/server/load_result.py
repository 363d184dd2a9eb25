"""Result of a load: the outcome of each request."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.engine.server.fault import FaultKind
from pytest_llmperf.engine.server.schedule import Schedule
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.run import Dispatch, Run
from pytest_llmperf.stored_json import dump, read
from pytest_llmperf.timeline import Timeline


@dataclass(frozen=True)
class RequestOutcome:
    """Outcome of one request. All times are seconds on the client's clock.

    Attributes:
        number: number in the order of the schedule, from 0.
        due: when it was scheduled to be sent.
        asked: when it was given to the client.
        sent: when its connection was ready, just before it was written, or None.
        ended: arrival time of its answer's end, or when its fault was noticed.
        times: arrival time of each chunk with output.
        first_answer: arrival time of the first chunk after any reasoning, or None.
        first_chunk_tokens: number of tokens of the first chunk with output, if the server
            reports it; else None.
        tokens: number of output tokens by the server's own count, or None.
        tokens_asked: number of output tokens asked for, or None.
        prompt_tokens: number of prompt tokens by the server's own count, or None.
        cached_tokens: number of prompt tokens that it took from its cache, or None.
        fault: kind of its fault, or None.
        message: message of its fault.
    """

    number: int
    due: float
    asked: float
    sent: float | None
    ended: float
    times: array[float]
    first_answer: float | None
    first_chunk_tokens: int | None
    tokens: int | None
    tokens_asked: int | None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    fault: FaultKind | None = None
    message: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether it got a complete answer; tokens that are counted must have been sent."""
        return self.fault is None and (self.tokens in (None, 0) or len(self.times) > 0)

    @property
    def timeline(self) -> Timeline | None:
        """Timeline from the scheduled start; None if the server did not count the tokens."""
        if self.tokens is None:
            return None
        evaluated = None
        if self.prompt_tokens is not None and self.cached_tokens is not None:
            evaluated = self.prompt_tokens - self.cached_tokens
        return Timeline(
            self.due,
            tuple(self.times),
            self.prompt_tokens,
            evaluated,
            tokens=self.tokens,
            t_first_answer=self.first_answer,
            prompt_tokens_cached=self.cached_tokens,
        )


@dataclass(frozen=True)
class LoadResult:
    """A load and the outcomes of its requests.

    Attributes:
        schedule: the schedule that it followed.
        outcomes: outcomes of its requests, ordered by number.
        window: when the first request was due and when the last one ended.
        lags: how late the client's event loop was, seconds, sampled regularly.
        busy: share of a core that the client used; of several processes, the busiest's.
        clients: number of client processes that sent it.
        max_cached: number of a prompt's tokens that the server may take from its cache; None: all.
        servers: the load by each server's own counters, by its address or ``llm.start``; None if
            it publishes none.
    """

    schedule: Schedule
    outcomes: tuple[RequestOutcome, ...]
    window: tuple[float, float]
    lags: array[float] = field(default_factory=lambda: array("d"))
    busy: float = 0.0
    clients: int = 1
    max_cached: int | None = None
    servers: Mapping[str, ServerSide | None] = field(default_factory=dict)

    @property
    def answered(self) -> tuple[RequestOutcome, ...]:
        """Outcomes of the requests that got a complete answer."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_answered)

    def run(self, good: int | None = None) -> Run | None:
        """Return the run of the answered requests; None if the server did not count their tokens.

        ``good``: number of answers within the test's own limits, if it has any.
        """
        timelines, schedule = [], []
        for outcome in self.answered:
            timeline = outcome.timeline
            if timeline is None:
                return None
            timelines.append(timeline)
            schedule.append(Dispatch(outcome.due, outcome.asked))
        return Run(tuple(timelines), tuple(schedule), self.window, len(self.outcomes), good)

    def to_wire(self) -> dict[str, Any]:
        """Convert to plain JSON types, without the schedule."""
        outcomes = [{**vars(outcome), "times": list(outcome.times)} for outcome in self.outcomes]
        return {
            "outcomes": outcomes,
            "window": list(self.window),
            "lags": list(self.lags),
            "busy": self.busy,
            "clients": self.clients,
            "max_cached": self.max_cached,
            "servers": {url: side and dump(side) for url, side in self.servers.items()},
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, Any], schedule: Schedule) -> LoadResult:
        """Rebuild a result from ``to_wire``'s output and the schedule that was sent."""
        outcomes = (
            RequestOutcome(**{**o, "times": array("d", o["times"])}) for o in data["outcomes"]
        )
        begin, end = data["window"]
        lags = array("d", data["lags"])
        servers = {url: side and read(ServerSide, side) for url, side in data["servers"].items()}
        return cls(
            schedule,
            tuple(outcomes),
            (begin, end),
            lags,
            data["busy"],
            data["clients"],
            data["max_cached"],
            servers,
        )

    @classmethod
    def merged(cls, schedule: Schedule, parts: Sequence[LoadResult]) -> LoadResult:
        """Merge the results of a load that was sent in parts."""
        outcomes = sorted((o for part in parts for o in part.outcomes), key=lambda o: o.number)
        begin = min(part.window[0] for part in parts)
        end = max(part.window[1] for part in parts)
        lags = array("d", (lag for part in parts for lag in part.lags))
        busy = max(part.busy for part in parts)
        clients = sum(part.clients for part in parts)
        return cls(schedule, tuple(outcomes), (begin, end), lags, busy, clients)
