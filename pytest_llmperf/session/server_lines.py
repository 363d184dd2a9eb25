"""What servers' own counters say of a test's loads. What explains a slow one: ``diagnosis``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pytest_llmperf.engine.server.server_side import SeenLevel, ServerSide
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.measure.load_metrics import LoadFigures

#: How much less than ours the replicas may have generated: rounding.
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
    replicas = [*_replicas(sides, figures), *_unnamed(sides, figures)] if len(sides) > 1 else []
    return (*seen, *replicas)


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
    return [f"up to {count(round(peak), 'request')} {what} (mean {mean:.2g})"]


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
    found = [f"requests by replica, estimated from output tokens: {', '.join(served)}"]
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


def _unnamed(sides: _Sides, figures: Sequence[LoadFigures]) -> list[str]:
    """Say that servers answer which are not among the replicas."""
    generated = [_generated(of_one) for of_one in sides.values()]
    total = sum(tokens or 0 for tokens in generated)
    ours = sum(round((one.output_tokens_per_sec or 0.0) * one.seconds) for one in figures)
    if None in generated or not total or ours <= _OTHERS * total:
        return []
    return [
        f"the replicas generated {total:,} tokens, but {ours:,} arrived: other servers answer at "
        "the same address; name each of them in llm.replicas"
    ]
