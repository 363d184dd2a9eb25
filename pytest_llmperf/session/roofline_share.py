"""A test's share of the machine's memory limit, with its texts and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmperf.metrics import Unit
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.measure.roofline import Bandwidth, Limit


@dataclass(frozen=True)
class RooflineShare:
    """The share of this machine's memory limit that a test's decode reaches.

    Attributes:
        limit: that limit, or None where it is unknown.
        share: the session's value, 0.47 for 47%; None if nothing was measured.
        problem: why the limit is unknown; "" if it is known.
        in_verdict: whether a verdict already reports the problem.
    """

    limit: Limit | None
    share: float | None = None
    problem: str = ""
    in_verdict: bool = False


def roofline_lines(view: RooflineShare | None) -> Iterator[str]:
    """Yield a line on the limit and its basis, or on why there is none."""
    if view is None or (view.limit is None and view.in_verdict):
        return
    if view.limit is None:
        yield f"roofline unknown: {view.problem}"
        return
    limit, reads = view.limit, view.limit.reads
    weights, cache = sum(reads.weights.values()), sum(reads.cache.values())
    measured = "" if view.share is None else f"{_percent(view.share)} of "
    at = ", ".join(_device(name, one, limit) for name, one in limit.bandwidths.items())
    yield (
        f"roofline: {measured}this machine's limit of {_rate(limit.tokens_per_sec)}: "
        f"{_mega(reads.total)} per token (weights {_mega(weights)}, KV cache {_mega(cache)} at "
        f"depth {reads.depth:.0f}); {at}"
    )
    if view.share is not None and view.share > 1.0:
        yield f"over 100%: {_why_over(limit)}"


def roofline_json(view: RooflineShare | None) -> dict[str, Any] | None:
    """Return the limit and its basis as plain JSON types; None if not requested."""
    if view is None:
        return None
    limit = view.limit
    if limit is None:
        return {"share": None, "problem": view.problem}
    reads = limit.reads
    return {
        "share": view.share,
        "problem": None,
        "limit_tokens_per_sec": limit.tokens_per_sec,
        "bytes_per_token": reads.total,
        "depth": reads.depth,
        "model_bytes": limit.model_bytes,
        "devices": {
            name: {
                "weight_bytes": reads.weights.get(name, 0.0),
                "cache_bytes": reads.cache.get(name, 0.0),
                "bandwidth": None if one is None else one.bytes_per_s,
                "how": None if one is None else one.how,
                "spread": None if one is None else one.spread,
            }
            for name in reads.by_device
            for one in [limit.bandwidths.get(name)]
        },
    }


def _device(name: str, bandwidth: Bandwidth, limit: Limit) -> str:
    alone = len(limit.bandwidths) == 1
    part = "" if alone else f"{_mega(limit.reads.by_device[name])} of it "
    spread = "" if bandwidth.spread is None else f", spread {_percent(bandwidth.spread)}"
    return f"{part}on {name} at {_giga(bandwidth.bytes_per_s)} GB/s ({bandwidth.how}{spread})"


def _why_over(limit: Limit) -> str:
    cpu = limit.bandwidths.get("CPU")
    if cpu is not None and cpu.cache_bytes > limit.reads.by_device["CPU"]:
        return (
            f"what a token reads fits into the last-level cache ({cpu.cache_bytes >> 20} MiB), "
            "which is faster than the memory that the limit is about"
        )
    return (
        "decoding only reads; the bandwidth is that of a stream that writes, too, which can be "
        "slower (docs/roofline.md)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _mega(count: float) -> str:
    return f"{count / 1e6:.4g} MB" if count < 1e9 else f"{count / 1e9:.4g} GB"


def _giga(rate: float) -> str:
    billions = rate / 1e9
    return f"{billions:.3g}" if billions < 100 else f"{billions:.0f}"


def _rate(value: float) -> str:
    return format_quantity(value, Unit.TOKENS_PER_SECOND)
