"""Roofline of decoding: how close it comes to the limit set by memory bandwidth.

At batch size 1 each output token takes one step that reads every weight in use
and the cache of every earlier position once. A device can't read faster than
its bandwidth B, and the layers of several devices run one after the other, so
a step takes at least the sum over devices of bytes / B. The roofline is that
minimum time divided by the measured time.
Source: Williams, Waterman, Patterson: Roofline (CACM 2009); docs/roofline.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf.engine.model_reads import ModelReads


@dataclass(frozen=True)
class Bandwidth:
    """Memory bandwidth of one device.

    Attributes:
        bytes_per_s: maximum bandwidth.
        how: its origin, in a few words.
        spread: how far the median repetition was below the maximum, a fraction; None if it was
            not measured.
        cache_bytes: last-level cache in front of that memory; 0 if unknown.
    """

    bytes_per_s: float
    how: str
    spread: float | None = None
    cache_bytes: int = 0


@dataclass(frozen=True)
class DecodeReads:
    """Bytes read by the decode steps of one workload, averaged over the steps.

    Attributes:
        steps: number of decode steps: output tokens except the first of each request.
        depth: number of positions that a step attends to, its own included.
        weights, cache: bytes per step by device.
    """

    steps: int
    depth: float
    weights: Mapping[str, float]
    cache: Mapping[str, float]

    @property
    def by_device(self) -> dict[str, float]:
        """Bytes per step, by device."""
        names = dict.fromkeys([*self.weights, *self.cache])
        return {name: self.weights.get(name, 0.0) + self.cache.get(name, 0.0) for name in names}

    @property
    def total(self) -> float:
        """Bytes per step, all devices together."""
        return sum(self.by_device.values())


#: Share of a step's bytes below which a device is left out: the host's memory always serves one
#: row of the embedding.
_NEGLIGIBLE = 1e-4


def reading_devices(by_device: Mapping[str, float]) -> list[str]:
    """Return the devices whose reads count for the limit."""
    minimum = _NEGLIGIBLE * sum(by_device.values())
    return [name for name, size in by_device.items() if size > minimum]


def decode_reads(reads: ModelReads, requests: Sequence[tuple[int, int]]) -> DecodeReads | None:
    """Return the average reads of the decode steps of requests; None without a step.

    Each request is (prompt tokens, output tokens). The step that takes output token i (from 1)
    and makes the next one attends to the prompt's p positions and to i of the output: p + i.
    """
    depths = [prompt + i for prompt, output in requests for i in range(1, output)]
    if not depths:
        return None
    cache: dict[str, float] = {}
    for part in reads.caches:
        mean = sum(map(part.bytes_at, depths)) / len(depths)
        cache[part.device] = cache.get(part.device, 0.0) + mean
    weights = {name: float(size) for name, size in reads.weights.items()}
    return DecodeReads(len(depths), sum(depths) / len(depths), weights, cache)


@dataclass(frozen=True)
class Limit:
    """The limit that memory bandwidth sets to decoding one workload on one machine.

    Attributes:
        reads: bytes that a step reads.
        bandwidths: bandwidth of each device that counts, by device.
        model_bytes: size of all weights.
    """

    reads: DecodeReads
    bandwidths: Mapping[str, Bandwidth]
    model_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Minimum seconds of a step."""
        by_device = self.reads.by_device
        return sum(by_device[name] / b.bytes_per_s for name, b in self.bandwidths.items())

    @property
    def tokens_per_sec(self) -> float:
        """Decode tokens per second at the limit."""
        return 1.0 / self.seconds

    def share(self, tokens_per_sec: float) -> float:
        """Return the roofline: 0.47 where decode is at 47% of the limit."""
        return self.seconds * tokens_per_sec
