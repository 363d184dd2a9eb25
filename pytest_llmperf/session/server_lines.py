"""Report lines on a test's requests from its servers' own counters."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pytest_llmperf.engine.server.server_side import SeenLevel, ServerSide
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.measure.server_use import (
    ReplicaShares,
    ServerUse,
    generated_by_server,
    hit_share,
)

#: Largest ratio of received to generated tokens that rounding explains.
_OTHERS = 1.1


def server_lines(uses: Sequence[ServerUse]) -> tuple[str, ...]:
    """Return what the counters say, one line each; empty if no server publishes any."""
    known = [side for use in uses for side in use.servers.values() if side is not None]
    servers = len(generated_by_server(uses))
    seen = [_seen(known, servers)] if known else []
    return (*seen, *(_replicas(uses) if servers > 1 else ()))


def _seen(sides: Sequence[ServerSide], servers: int) -> str:
    parts = [
        *_level("running", [side.running for side in sides if side.running is not None]),
        *_level("waiting", [side.waiting for side in sides if side.waiting is not None]),
    ]
    used = [side.kv_use.peak for side in sides if side.kv_use is not None]
    if used:
        parts.append(f"up to {percent(max(used))} of its KV cache in use")
    preempted = [side.preemptions for side in sides if side.preemptions is not None]
    if preempted:
        parts.append(count(sum(preempted), "preemption"))
    served = hit_share(sides)
    if served is not None:
        parts.append(f"{percent(served)} of the prompt tokens from its cache")
    who = f"{sides[0].server}'s own counters" + (f", each of {servers}" if servers > 1 else "")
    return f"{who}: {', '.join(parts) or 'nothing that counts'}"


def _level(what: str, levels: Sequence[SeenLevel]) -> list[str]:
    if not levels:
        return []
    peak, mean = max(level.peak for level in levels), fmean(level.mean for level in levels)
    return [f"up to {count(round(peak), 'request')} {what} (mean {mean:.2g})"]


def _replicas(uses: Sequence[ServerUse]) -> list[str]:
    """Return a line on how the replicas shared the requests, and one on unnamed servers."""
    tokens = generated_by_server(uses)
    silent = [url for url, count in tokens.items() if count is None]
    if silent:
        return [f"how the replicas shared the requests is unknown: {_unknown(uses, silent)}"]
    shared = ReplicaShares.of(uses)
    if shared is None:
        return [f"none of the {len(tokens)} replicas generated anything"]
    answered = sum(use.answered for use in uses)
    parts = shared.shares.items()
    served = (f"{url} {percent(share)} (about {share * answered:.0f})" for url, share in parts)
    line = f"requests by replica, estimated from output tokens: {', '.join(served)}"
    return [line, *_unnamed(uses, sum(count or 0 for count in tokens.values()))]


def _unknown(uses: Sequence[ServerUse], silent: Sequence[str]) -> str:
    """Return why the number of tokens that these servers generated is unknown."""
    sides = {url: [use.servers.get(url) for use in uses] for url in silent}
    fell = [url for url in silent if any(side and side.went_back for side in sides[url])]
    if fell:
        return (
            f"the counters of {', '.join(fell)} fell: it was restarted, or several servers answer "
            "there"
        )
    return f"the counters of {', '.join(silent)} could not be read"


def _unnamed(uses: Sequence[ServerUse], total: int) -> list[str]:
    """Return a line if servers other than the replicas answer."""
    ours = sum(use.tokens for use in uses)
    if ours <= _OTHERS * total:
        return []
    return [
        f"the replicas generated {total:,} tokens, but {ours:,} arrived: other servers answer at "
        "the same address; name each of them in llm.replicas"
    ]
