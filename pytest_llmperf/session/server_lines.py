"""What a server's own counters say of a test's loads, and what in them explains a slow one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pytest_llmperf.engine.server.server_side import SeenLevel, ServerSide
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.measure.load_metrics import LoadFigures

#: Share of the readings with a request in the server's queue from which that is the explanation.
_QUEUED_SHARE = 0.5
#: Share of the KV cache in use from which it is nearly full.
_FULL = 0.95
#: How much more than ours the server may have generated: warm-up and rounding.
_OTHERS = 1.1


def server_lines(figures: Sequence[LoadFigures]) -> tuple[str, ...]:
    """Return what the counters say, one line each; empty if the server publishes none."""
    sides = [one.server_side for one in figures if one.server_side is not None]
    if not sides:
        return ()
    return (_seen(sides), *_causes(sides, figures))


def _seen(sides: Sequence[ServerSide]) -> str:
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
    return f"{sides[0].server}'s own counters: {', '.join(parts) or 'nothing during the loads'}"


def _level(what: str, levels: Sequence[SeenLevel]) -> list[str]:
    if not levels:
        return []
    peak, mean = max(one.peak for one in levels), fmean(one.mean for one in levels)
    return [f"up to {peak:g} requests {what} (mean {mean:.2g})"]


def _causes(sides: Sequence[ServerSide], figures: Sequence[LoadFigures]) -> list[str]:
    found = []
    queued = [one.waiting_share for one in sides if one.waiting_share is not None]
    if queued and fmean(queued) >= _QUEUED_SHARE:
        found.append(
            f"requests waited in the server's queue in {percent(fmean(queued))} of the readings: "
            "it computes fewer at a time than the load sends (--parallel, --max-num-seqs)"
        )
    if any(one.preemptions for one in sides):
        found.append(
            "requests lost their place in the KV cache and were computed again: the cache is too "
            "small for so many at a time"
        )
    elif any(one.kv_use is not None and one.kv_use.peak >= _FULL for one in sides):
        found.append("the KV cache was nearly full, so it may limit how many run at a time")
    generated = [one.generated_tokens for one in sides if one.generated_tokens is not None]
    ours = sum(round((one.output_tokens_per_sec or 0.0) * one.seconds) for one in figures)
    if ours and len(generated) == len(figures) and sum(generated) > _OTHERS * ours:
        found.append(
            f"the server generated {sum(generated):,} tokens meanwhile, and {ours:,} were ours: "
            "somebody else uses it"
        )
    return found
