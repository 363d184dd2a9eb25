"""Requests to servers, together with the servers' own counters during the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.stats.proportions import binomial_tail

if TYPE_CHECKING:
    from pytest_llmperf.engine.client import EngineClient
    from pytest_llmperf.engine.server.counters import ServerCounters
    from pytest_llmperf.run import Run

#: Shares are not chance if replicas chosen at random per request would give them this rarely.
_CHANCE = 1 / 256
#: A replica is overloaded from this many times its even share on.
_OVERLOADED = 1.5


@dataclass(frozen=True)
class ServerUse:
    """Requests of one sample, and the servers' own counters meanwhile.

    Attributes:
        servers: each server's counters, by its address; None if it publishes none.
        answered: number of requests that got a complete answer.
        tokens: their output tokens, by the server's count in each answer.
        tokens_asked: output tokens that the servers may have generated for all requests; None
            if unknown.
    """

    servers: Mapping[str, ServerSide | None]
    answered: int
    tokens: int
    tokens_asked: int | None


class UseCounters:
    """Reads servers' counters before and after requests that are sent one at a time.

    Nothing is read in between, because the process that times the answers would have to do it.

    Args:
        client: client of the engine that sends the requests.
        beside: whether another process sends requests meanwhile. If both use a server that runs
            already, it counts the requests of both.

    Attributes:
        are_read: whether the counters are read at all.
    """

    def __init__(self, client: EngineClient, *, beside: bool = False) -> None:
        self._client = client
        self.are_read = client.kind.counts and (client.kind.restarts or not beside)
        self._before: Mapping[str, ServerCounters | None] | None = None

    def begin(self) -> None:
        """Read the counters before the first request; later calls do nothing."""
        if self._before is None and self.are_read:
            self._before = self._read()

    def use(self, runs: Sequence[Run]) -> ServerUse | None:
        """Read the counters after the last request; None if no server publishes any."""
        before = self._before or {}
        if not any(before.values()):
            return None
        after = self._read()
        answers = [timeline.tokens or 0 for run in runs for timeline in run.timelines]
        sides = {url: ServerSide.of(before[url], (), after.get(url)) for url in before}
        return ServerUse(sides, len(answers), sum(answers), sum(answers))

    def _read(self) -> Mapping[str, ServerCounters | None]:
        try:
            return self._client.counters()
        except EngineError:
            # The next request will report the error.
            return {}


def hit_share(sides: Iterable[ServerSide]) -> float | None:
    """Return the share of the prompt tokens that caches served, where both are counted."""
    known = [
        (side.cache_hits, side.cache_queries)
        for side in sides
        if side.cache_hits is not None and side.cache_queries is not None
    ]
    queries = sum(asked for _, asked in known)
    return sum(hits for hits, _ in known) / queries if queries else None


def generated_by_server(uses: Sequence[ServerUse]) -> dict[str, int | None]:
    """Return how many tokens each server generated, by address; None if unknown."""
    totals: dict[str, int | None] = {}
    for url in dict.fromkeys(url for use in uses for url in use.servers):
        sides = [use.servers.get(url) for use in uses]
        tokens = [None if side is None else side.generated_tokens for side in sides]
        known = [count for count in tokens if count is not None]
        totals[url] = sum(known) if len(known) == len(tokens) else None
    return totals


@dataclass(frozen=True)
class ReplicaShares:
    """How replicas shared the requests, by output tokens: llama.cpp counts nothing else.

    Attributes:
        shares: share of each replica, by address.
        idle: addresses of replicas that served nothing, which is not chance.
        busiest: address of the replica that served most.
        times: how many times its even share the busiest replica served.
        is_overloaded: whether that is too much, and not chance.
    """

    shares: Mapping[str, float]
    idle: tuple[str, ...]
    busiest: str
    times: float
    is_overloaded: bool

    @classmethod
    def of(cls, uses: Sequence[ServerUse]) -> ReplicaShares | None:
        """Return the shares; None for a single server, or if they are unknown."""
        tokens = generated_by_server(uses)
        known = {url: count for url, count in tokens.items() if count is not None}
        total = sum(known.values())
        if len(tokens) < 2 or len(known) < len(tokens) or not total:
            return None
        answered, replicas = sum(use.answered for use in uses), len(known)
        shares = {url: count / total for url, count in known.items()}
        left_out = replicas * (1 - 1 / replicas) ** answered
        idle = tuple(url for url, share in shares.items() if not share and left_out <= _CHANCE)
        busiest = max(shares, key=shares.__getitem__)
        serving = replicas - len(idle)
        times = shares[busiest] * serving
        is_overloaded = times >= _OVERLOADED and (
            serving * binomial_tail(round(shares[busiest] * answered), answered, 1 / serving)
            <= _CHANCE
        )
        return cls(shares, idle, busiest, times, is_overloaded)
