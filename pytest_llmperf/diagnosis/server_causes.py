"""Causes in a server: queues, caches, long prompts, replicas, other clients' requests.

The options to set are from the servers' documentation: vLLM's "Optimization and Tuning", SGLang's
"Hyperparameter Tuning", llama.cpp's tools/server/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_llmperf.diagnosis.cause import Cause, CauseEvidence, Remedy
from pytest_llmperf.engine.server.server_side import SeenLevel, ServerSide
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.measure.server_use import ReplicaShares, hit_share
from pytest_llmperf.metrics import Unit
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.diagnosis.situation import Situation
    from pytest_llmperf.measure.server_use import ServerUse

#: Minimum number of readings to say anything about most of a load.
_MIN_READINGS = 3
#: Share of readings with a request in the queue from which the queue is a cause. llama.cpp answers
#: a reading late while its HTTP threads are busy: often when a request has just ended.
_QUEUED = 1 / 3
#: Share of the KV cache in use that counts as full: a request's blocks are taken together.
_FULL = 0.95
#: Factor and number by which a server may count more tokens than it sends, besides one per answer.
_OTHERS, _OTHER_TOKENS = 1.1, 64
#: Minimum difference between the two sides' shares of prompt tokens from the cache.
_HITS_APART = 0.1

#: By server: the options that limit the number of requests computed at once.
_AT_ONCE = {
    "vLLM": "--max-num-seqs",
    "SGLang": "--max-running-requests, or lower --schedule-conservativeness",
    "llama.cpp": "--parallel and --ctx-size, which its slots share (with --cont-batching, the "
    "default)",
}
#: By server: the options that give its KV cache more room.
_ROOM = {
    "vLLM": "raise --gpu-memory-utilization, set --kv-cache-dtype fp8, or lower --max-num-seqs",
    "SGLang": "raise --mem-fraction-static or --schedule-conservativeness, or lower "
    "--max-running-requests",
    "llama.cpp": "raise --ctx-size, set --cache-type-k and --cache-type-v q8_0, or lower "
    "--parallel",
}
#: By server: how to keep prompts in its cache for later requests.
_KEEPS_PROMPTS = {
    "vLLM": "start vLLM with --enable-prefix-caching",
    "SGLang": "start SGLang without --disable-radix-cache",
    "llama.cpp": "start llama-server with --cache-prompt",
}
#: By server: the option for the size of a prompt's pieces, between which answers go on.
_PIECES = {
    "vLLM": "--max-num-batched-tokens",
    "SGLang": "--chunked-prefill-size",
    "llama.cpp": "--batch-size",
}
#: Shares of the time between chunks lost to prompts: worth a look, and certain to be a cause.
_STALLED, _STALLED_MUCH = 0.1, 0.25


@dataclass(frozen=True)
class _ServerTotals:
    """A server's counters, summed over samples. None is unknown, never 0.

    Attributes:
        where: its address and a colon, if it is one of several.
        hit_share: share of the prompt tokens that its cache served.
    """

    where: str
    server: str
    readings: int
    waiting_share: float | None
    waiting: SeenLevel | None
    running: SeenLevel | None
    kv_use: SeenLevel | None
    preemptions: int
    hit_share: float | None

    @classmethod
    def by_server(cls, uses: Sequence[ServerUse]) -> list[_ServerTotals]:
        """Sum up the samples of each server that publishes counters."""
        urls = dict.fromkeys(url for use in uses for url in use.servers)
        sides_of = {url: [side for use in uses if (side := use.servers.get(url))] for url in urls}
        where = {url: f"{url}: " if len(urls) > 1 else "" for url in urls}
        return [cls._of(sides, where[url]) for url, sides in sides_of.items() if sides]

    @classmethod
    def of_all_servers(cls, uses: Sequence[ServerUse]) -> _ServerTotals | None:
        """Sum up the samples of all servers; None if no server publishes counters."""
        sides = [side for use in uses for side in use.servers.values() if side is not None]
        return cls._of(sides) if sides else None

    @classmethod
    def _of(cls, sides: Sequence[ServerSide], where: str = "") -> _ServerTotals:
        shares = [side.waiting_share for side in sides if side.waiting_share is not None]
        return cls(
            where=where,
            server=sides[0].server,
            readings=sum(side.readings for side in sides),
            waiting_share=fmean(shares) if shares else None,
            waiting=_level([side.waiting for side in sides]),
            running=_level([side.running for side in sides]),
            kv_use=_level([side.kv_use for side in sides]),
            preemptions=sum(side.preemptions or 0 for side in sides),
            hit_share=hit_share(sides),
        )

    @property
    def is_queued(self) -> bool:
        """Whether requests waited much of the time."""
        share = self.waiting_share
        return share is not None and share >= _QUEUED and self.readings >= _MIN_READINGS

    @property
    def is_full(self) -> bool:
        """Whether its KV cache was full."""
        return self.kv_use is not None and self.kv_use.peak >= _FULL

    @property
    def room(self) -> str:
        """The options that give its KV cache more room."""
        return _ROOM[self.server]


def _level(levels: Sequence[SeenLevel | None]) -> SeenLevel | None:
    known = [level for level in levels if level is not None]
    return SeenLevel(max(o.peak for o in known), fmean(o.mean for o in known)) if known else None


def _queued(situation: Situation) -> CauseEvidence | None:
    # Requests that wait for room in the KV cache are left to other rules.
    queued = [
        server
        for server in _ServerTotals.by_server(situation.uses)
        if server.is_queued and not server.is_full and not server.preemptions
    ]
    if not queued:
        return None
    own, base = max(queued, key=_wait_factor), _ServerTotals.of_all_servers(situation.base_uses)
    remedy = Remedy(
        f"raise {_AT_ONCE[own.server]}; or send fewer requests at once, or add a server",
        hint="more at once makes each answer slower: compare both in one session, with "
        "--llmperf-against-config",
    )
    return CauseEvidence(own.where + _queue_text(own, base), remedy, _wait_factor(own))


def _queue_text(own: _ServerTotals, base: _ServerTotals | None) -> str:
    assert own.waiting_share is not None
    text = (
        f"requests waited in the server's queue in {percent(own.waiting_share)} of "
        f"{count(own.readings, 'reading')}"
    )
    if own.waiting is not None and own.running is not None:
        text += (
            f", on average {own.waiting.mean:.2g} waiting and {own.running.mean:.2g} running, "
            f"at most {own.running.peak:g}"
        )
    if base is not None and base.waiting_share is not None:
        text += f"; on the base side in {percent(base.waiting_share)}"
    return text


def _wait_factor(own: _ServerTotals) -> float:
    """Return how many times longer requests take because they wait (Little's law)."""
    if own.waiting is None or own.running is None or not own.running.mean:
        return 1.0
    return 1.0 + own.waiting.mean / own.running.mean


def _preempted(situation: Situation) -> CauseEvidence | None:
    servers = _ServerTotals.by_server(situation.uses)
    own = max(servers, key=lambda server: server.preemptions, default=None)
    base = _ServerTotals.of_all_servers(situation.base_uses)
    if own is None or not own.preemptions:
        return None
    text = (
        f"{own.where}{own.server} counted {count(own.preemptions, 'preemption')}: requests lost "
        "their place in the KV cache, and what they had computed was computed again"
    )
    if base is not None:
        text += f"; on the base side {base.preemptions}"
    return CauseEvidence(text, Remedy(own.room), max(2.0, _wait_factor(own)))


def _cache_full(situation: Situation) -> CauseEvidence | None:
    full = [c for c in _ServerTotals.by_server(situation.uses) if c.is_full and not c.preemptions]
    if not full:
        return None
    own = max(full, key=_wait_factor)
    assert own.kv_use is not None
    text = (
        f"{own.where}up to {percent(own.kv_use.peak)} of the KV cache was in use "
        f"({percent(own.kv_use.mean)} on average)"
    )
    if own.is_queued:
        text += f", and {_queue_text(own, _ServerTotals.of_all_servers(situation.base_uses))}"
    return CauseEvidence(text, Remedy(own.room), _wait_factor(own), certain=own.is_queued)


def _fewer_hits(situation: Situation) -> CauseEvidence | None:
    own = _ServerTotals.of_all_servers(situation.uses)
    base = _ServerTotals.of_all_servers(situation.base_uses)
    if own is None or base is None or own.hit_share is None or base.hit_share is None:
        return None
    if base.hit_share - own.hit_share < _HITS_APART:
        return None
    text = (
        f"{percent(own.hit_share)} of the prompt tokens came from the server's cache, on the base "
        f"side {percent(base.hit_share)}"
    )
    remedy = Remedy(
        f"{_KEEPS_PROMPTS[own.server]}, and check what evicts prompts from the cache",
        hint="llm.cache: unique measures without it",
    )
    return CauseEvidence(text, remedy, (1 - own.hit_share) / max(1 - base.hit_share, 0.05))


def _prompts_stall(situation: Situation) -> CauseEvidence | None:
    stalls = [load.stalls for load in situation.loads if load.stalls is not None]
    share = fmean(stall.share for stall in stalls) if stalls else 0.0
    servers = _ServerTotals.by_server(situation.uses)
    if share < _STALLED or len(stalls) < len(situation.loads) or any(s.is_queued for s in servers):
        # It is unknown when the prompt of a queued request is read.
        return None
    beside, usual = (
        format_quantity(fmean(seconds), Unit.SECONDS)
        for seconds in ([stall.beside for stall in stalls], [stall.usual for stall in stalls])
    )
    text = (
        f"{percent(share)} of the time between an answer's chunks was lost to others' prompts: the "
        f"next chunk took {beside} while another request waited for its first, {usual} otherwise"
    )
    options = ", ".join(f"{server} {option}" for server, option in _PIECES.items())
    change = f"lower {_PIECES[servers[0].server] if servers else options}"
    remedy = Remedy(f"{change}, which makes first tokens a little later")
    return CauseEvidence(text, remedy, 1 / (1 - share), certain=share >= _STALLED_MUCH)


def _replica_idle(situation: Situation) -> CauseEvidence | None:
    # Only loads count: requests sent one at a time are no faster with another replica, and a
    # balancer that chooses per connection sends all of them to one.
    shared = ReplicaShares.of([load.use for load in situation.loads])
    if shared is None or not shared.idle:
        return None
    total, idle = len(shared.shares), len(shared.idle)
    remedy = Remedy(
        "have the balancer send requests there, too: look at its list of servers, its health "
        "checks and its session affinity"
    )
    text = (
        f"{', '.join(shared.idle)} served no requests; {total - idle} of {total} replicas served "
        "all of them"
    )
    return CauseEvidence(text, remedy, total / (total - idle))


def _replica_overloaded(situation: Situation) -> CauseEvidence | None:
    shared = ReplicaShares.of([load.use for load in situation.loads])
    if shared is None or not shared.is_overloaded:
        return None
    text = (
        f"{shared.busiest} served {percent(shared.shares[shared.busiest])} of the output tokens, "
        f"{shared.times:.2g} times its even share"
    )
    remedy = Remedy("balance by least connections or round robin, without session affinity")
    return CauseEvidence(text, remedy, shared.times)


def _other_traffic(situation: Situation) -> CauseEvidence | None:
    made, ours, answered = 0, 0, 0
    for use in situation.uses:
        tokens = [None if side is None else side.generated_tokens for side in use.servers.values()]
        known = [number for number in tokens if number is not None]
        if use.tokens_asked is not None and known and len(known) == len(tokens):
            made, ours = made + sum(known), ours + use.tokens_asked
            answered += use.answered
    if made <= _OTHERS * ours + answered + _OTHER_TOKENS:
        return None
    text = (
        f"the server generated {made:,} tokens, but this session asked for only {ours:,}: "
        "another client uses it"
    )
    remedy = Remedy("stop the other clients, or measure a server that only this session uses")
    return CauseEvidence(text, remedy, made / max(ours, 1))


SERVER_CAUSES = (
    Cause("requests_queued", "requests wait in the server's queue", "server", _queued),
    Cause("requests_preempted", "the server preempts requests", "server", _preempted),
    Cause("kv_cache_full", "the server's KV cache is full", "server", _cache_full),
    Cause("fewer_cache_hits", "fewer prompts come from the server's cache", "server", _fewer_hits),
    Cause("prompts_stall_answers", "prompts hold up the answers", "server", _prompts_stall),
    Cause("replica_idle", "a replica serves nothing", "server", _replica_idle),
    Cause(
        "replica_overloaded", "a replica serves too much of a load", "server", _replica_overloaded
    ),
    Cause("other_traffic", "other clients use the server", "server", _other_traffic),
)
