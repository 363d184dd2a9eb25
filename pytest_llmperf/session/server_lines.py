"""What servers' own counters say of a test's loads, and what in them explains a slow one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pytest_llmperf.engine.server.server_side import SeenLevel, ServerSide
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.measure.load_metrics import LoadFigures

#: Share of the readings with a request in a server's queue from which that is the explanation.
_QUEUED_SHARE = 0.5
#: Share of the KV cache in use from which it is nearly full.
_FULL = 0.95
#: How much more or less than ours servers may have generated: warm-up and rounding.
_OTHERS = 1.1
#: Requests for each replica below which their shares are chance.
_MIN_REQUESTS = 4
#: How many times its even share makes a replica overloaded.
_OVERLOADED = 1.5

#: By address, what a server's counters say of each load; None where it published none.
_Sides = Mapping[str, Sequence[ServerSide | None]]


def server_lines(figures: Sequence[LoadFigures]) -> tuple[str, ...]:
    """Return what the counters say, one line each; empty if the server publishes none."""
    addresses = dict.fromkeys(url for one in figures for url in one.servers)
    sides = {url: [one.servers.get(url) for one in figures] for url in addresses}
    known = [side for of_one in sides.values() for side in of_one if side is not None]
    seen = [_seen(known, len(sides))] if known else []
    replicas = _replicas(sides, figures) if len(sides) > 1 else []
    return (*seen, *replicas, *_causes(sides, known, figures))


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
    who = f"{sides[0].server}'s own counters" + (f", each of {servers}" if servers > 1 else "")
    return f"{who}: {', '.join(parts) or 'nothing during the loads'}"


def _level(what: str, levels: Sequence[SeenLevel]) -> list[str]:
    if not levels:
        return []
    peak, mean = max(one.peak for one in levels), fmean(one.mean for one in levels)
    return [f"up to {peak:g} requests {what} (mean {mean:.2g})"]


def _replicas(sides: _Sides, figures: Sequence[LoadFigures]) -> list[str]:
    """Say how the replicas shared the requests, by their output tokens; llama.cpp counts these."""
    generated = {url: _generated(of_one) for url, of_one in sides.items()}
    silent = [url for url, tokens in generated.items() if tokens is None]
    if silent:
        return [f"how the replicas shared the load is unknown: no counters of {', '.join(silent)}"]
    total = sum(tokens or 0 for tokens in generated.values())
    if not total:
        return [f"none of the {len(sides)} replicas generated anything during the loads"]
    answered = sum(one.answered for one in figures)
    shares = {url: (tokens or 0) / total for url, tokens in generated.items()}
    served = (f"{url} {percent(one)} (about {one * answered:.0f})" for url, one in shares.items())
    found = [f"requests by replica, after their output tokens: {', '.join(served)}"]
    if answered < _MIN_REQUESTS * len(sides):
        return found
    idle = [url for url, one in shares.items() if not one]
    if idle:
        found.append(
            f"{', '.join(idle)} served nothing: look at the balancer's list of servers, its health "
            "checks and its session affinity"
        )
    busiest = max(shares, key=shares.__getitem__)
    times = shares[busiest] * (len(shares) - len(idle))
    if times >= _OVERLOADED:
        found.append(
            f"{busiest} served {times:.2g} times its even share: balance by least connections or "
            "round robin, without session affinity"
        )
    return found


def _generated(of_one: Sequence[ServerSide | None]) -> int | None:
    """Return the tokens that a server generated during all loads; None if that is unknown."""
    tokens = [None if side is None else side.generated_tokens for side in of_one]
    known = [one for one in tokens if one is not None]
    return sum(known) if len(known) == len(tokens) else None


def _causes(
    sides: _Sides, known: Sequence[ServerSide], figures: Sequence[LoadFigures]
) -> list[str]:
    found = []
    queued = [
        [side.waiting_share for side in of_one if side and side.waiting_share is not None]
        for of_one in sides.values()
    ]
    worst = max((fmean(shares) for shares in queued if shares), default=0.0)
    if worst >= _QUEUED_SHARE:
        found.append(
            f"requests waited in the server's queue in {percent(worst)} of the readings: "
            "it computes fewer at a time than the load sends (--parallel, --max-num-seqs)"
        )
    if any(one.preemptions for one in known):
        found.append(
            "requests lost their place in the KV cache and were computed again: the cache is too "
            "small for so many at a time"
        )
    elif any(one.kv_use is not None and one.kv_use.peak >= _FULL for one in known):
        found.append("the KV cache was nearly full, so it may limit how many run at a time")
    generated = [_generated(of_one) for of_one in sides.values()]
    total = sum(tokens or 0 for tokens in generated)
    ours = sum(round((one.output_tokens_per_sec or 0.0) * one.seconds) for one in figures)
    if not ours or None in generated or not total:
        return found
    if total > _OTHERS * ours:
        found.append(
            f"the server generated {total:,} tokens meanwhile, and {ours:,} were ours: "
            "somebody else uses it"
        )
    elif len(sides) > 1 and ours > _OTHERS * total:
        found.append(
            f"the replicas generated {total:,} tokens, and {ours:,} came: others answer behind "
            "the same address; name each server in llm.replicas"
        )
    return found
