"""What servers' own counters say of a test's requests. What explains slow ones: ``diagnosis``."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pytest_llmperf.engine.server.server_side import SeenLevel, ServerSide
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.measure.server_use import ReplicaShares, ServerUse, generated, hit_share

#: How much less than ours the replicas may have generated: rounding.
_OTHERS = 1.1


def server_lines(uses: Sequence[ServerUse]) -> tuple[str, ...]:
    """Return what the counters say, one line each; empty if no server publishes any."""
    known = [side for one in uses for side in one.servers.values() if side is not None]
    servers = len(generated(uses))
    seen = [_seen(known, servers)] if known else []
    return (*seen, *(_replicas(uses) if servers > 1 else ()))


def _seen(sides: Sequence[ServerSide], servers: int) -> str:
    parts = [
        *_level("running", [one.running for one in sides if one.running is not None]),
        *_level("waiting", [one.waiting for one in sides if one.waiting is not None]),
    ]
    used = [one.kv_use.peak for one in sides if one.kv_use is not None]
    if used:
        parts.append(f"up to {percent(max(used))} of its KV cache in use")
    preempted = [one.preemptions for one in sides if one.preemptions is not None]
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
    peak, mean = max(one.peak for one in levels), fmean(one.mean for one in levels)
    return [f"up to {count(round(peak), 'request')} {what} (mean {mean:.2g})"]


def _replicas(uses: Sequence[ServerUse]) -> list[str]:
    """Say how the replicas shared the requests."""
    tokens = generated(uses)
    silent = [url for url, count in tokens.items() if count is None]
    if silent:
        return [f"how the replicas shared the requests is unknown: {_unknown(uses, silent)}"]
    shared = ReplicaShares.of(uses)
    if shared is None:
        return [f"none of the {len(tokens)} replicas generated anything"]
    answered = sum(one.answered for one in uses)
    parts = shared.shares.items()
    served = (f"{url} {percent(share)} (about {share * answered:.0f})" for url, share in parts)
    found = f"requests by replica, estimated from output tokens: {', '.join(served)}"
    return [found, *_unnamed(uses, sum(count or 0 for count in tokens.values()))]


def _unknown(uses: Sequence[ServerUse], silent: Sequence[str]) -> str:
    """Say why it is not known what these servers generated."""
    sides = {url: [one.servers.get(url) for one in uses] for url in silent}
    fell = [url for url in silent if any(one and one.went_back for one in sides[url])]
    if fell:
        return (
            f"the counters of {', '.join(fell)} fell: it was restarted, or several servers answer "
            "there"
        )
    return f"the counters of {', '.join(silent)} could not be read"


def _unnamed(uses: Sequence[ServerUse], total: int) -> list[str]:
    """Say that servers answer which are not among the replicas."""
    ours = sum(one.tokens for one in uses)
    if ours <= _OTHERS * total:
        return []
    return [
        f"the replicas generated {total:,} tokens, but {ours:,} arrived: other servers answer at "
        "the same address; name each of them in llm.replicas"
    ]
