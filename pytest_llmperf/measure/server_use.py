"""What requests asked of servers, beside what the servers' own counters say of the same time."""

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

#: How likely shares may be of replicas that are chosen at random for each request, to be chance.
_CHANCE = 1 / 256
#: How many times its even share makes a replica overloaded.
_OVERLOADED = 1.5


@dataclass(frozen=True)
class ServerUse:
    """Requests of one sample, and the servers' own counters meanwhile.

    Attributes:
        servers: by its address, what a server's counters say; None if it publishes none.
        answered: number of requests that got a complete answer.
        tokens: their output tokens, by the server's count in each answer.
        tokens_asked: output tokens that the servers may have generated for all requests; None
            where that is unknown.
    """

    servers: Mapping[str, ServerSide | None]
    answered: int
    tokens: int
    tokens_asked: int | None


class UseCounters:
    """Reads servers' counters before and after requests that are sent one at a time.

    Nothing is read in between: it would be read by the process that times the answers.

    Args:
        client: of the engine that asks the servers.
        beside: whether another process asks meanwhile. A server that runs already may be asked by
            both, and would count the requests of both.

    Attributes:
        are_read: whether they are.
    """

    def __init__(self, client: EngineClient, *, beside: bool = False) -> None:
        self._client = client
        self.are_read = client.kind.counts and (client.kind.restarts or not beside)
        self._before: Mapping[str, ServerCounters | None] | None = None

    def begin(self) -> None:
        """Read the counters before the first request; no more than once."""
        if self._before is None and self.are_read:
            self._before = self._read()

    def use(self, runs: Sequence[Run]) -> ServerUse | None:
        """Read the counters after the last request; None where no server publishes any."""
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
            # The next request says what is wrong.
            return {}


def hit_share(sides: Iterable[ServerSide]) -> float | None:
    """Return the share of the prompt tokens that caches served, by samples that count both."""
    known = [
        (one.cache_hits, one.cache_queries)
        for one in sides
        if one.cache_hits is not None and one.cache_queries is not None
    ]
    queries = sum(asked for _, asked in known)
    return sum(hits for hits, _ in known) / queries if queries else None


def generated(uses: Sequence[ServerUse]) -> dict[str, int | None]:
    """Return by address how many tokens each server generated; None where that is unknown."""
    found: dict[str, int | None] = {}
    for url in dict.fromkeys(url for one in uses for url in one.servers):
        sides = [one.servers.get(url) for one in uses]
        tokens = [None if side is None else side.generated_tokens for side in sides]
        known = [one for one in tokens if one is not None]
        found[url] = sum(known) if len(known) == len(tokens) else None
    return found


@dataclass(frozen=True)
class ReplicaShares:
    """How replicas shared the requests, by their output tokens: llama.cpp counts nothing else.

    Attributes:
        shares: by address, its share.
        idle: addresses that served nothing, and more requests than leave one out by chance.
        busiest: address of the one that served most.
        times: how many times its even share that one served.
        is_overloaded: whether that is much, and more than chance.
    """

    shares: Mapping[str, float]
    idle: tuple[str, ...]
    busiest: str
    times: float
    is_overloaded: bool

    @classmethod
    def of(cls, uses: Sequence[ServerUse]) -> ReplicaShares | None:
        """Return the shares; None for a single server, or where they are unknown."""
        tokens = generated(uses)
        known = {url: count for url, count in tokens.items() if count is not None}
        total = sum(known.values())
        if len(tokens) < 2 or len(known) < len(tokens) or not total:
            return None
        answered, every = sum(one.answered for one in uses), len(known)
        shares = {url: count / total for url, count in known.items()}
        left_out = every * (1 - 1 / every) ** answered
        idle = tuple(url for url, share in shares.items() if not share and left_out <= _CHANCE)
        busiest = max(shares, key=shares.__getitem__)
        serving = every - len(idle)
        times = shares[busiest] * serving
        is_overloaded = times >= _OVERLOADED and (
            serving * binomial_tail(round(shares[busiest] * answered), answered, 1 / serving)
            <= _CHANCE
        )
        return cls(shares, idle, busiest, times, is_overloaded)
