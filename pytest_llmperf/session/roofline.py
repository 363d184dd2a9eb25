"""Rooflines: a test's share of the machine's memory limit, with texts and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.gate.words import count
from pytest_llmperf.machine.gpu.bandwidth import GpuBandwidth, gpu_bandwidths
from pytest_llmperf.measure.roofline import Bandwidth, Limit, decode_reads, reading_devices
from pytest_llmperf.metrics import METRICS, Unit
from pytest_llmperf.run import Run
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.session.result import CheckResult


_NAME = "roofline"


@dataclass(frozen=True)
class RooflineShare:
    """The share of this machine's memory limit that a test's decode reaches.

    Attributes:
        limit: the limit, or None if it is unknown.
        share: the session's value, 0.47 for 47%; None if nothing was measured.
        problem: why the limit is unknown; "" if it is known.
        in_verdict: whether a verdict already reports the problem.
    """

    limit: Limit | None
    share: float | None = None
    problem: str = ""
    in_verdict: bool = False


@dataclass(frozen=True)
class UnknownLimit:
    """The reason why a limit is unknown.

    Attributes:
        text: the reason, a sentence without a full stop.
        is_temporary: whether it may be known later: the machine was disturbed.
    """

    text: str
    is_temporary: bool = False


class RooflineMeter:
    """Measures the machine's bandwidths and computes the limit of a workload.

    Args:
        checks: the checks of all tests; if none is a roofline, nothing is ever measured.
    """

    def __init__(self, checks: Iterable[Check] = ()) -> None:
        self.is_asked = any(check.metric.name == _NAME for check in checks)
        self._cpu: dict[int, Bandwidth | UnknownLimit] = {}
        self._gpus: tuple[GpuBandwidth, ...] | None = None

    def prepare(self, info: EngineInfo) -> None:
        """Look up or measure the bandwidths needed for this engine's limit.

        Call it while no engine is working: measuring uses the whole memory bandwidth.
        """
        if not self.is_asked or info.reads is None or info.reads.problem:
            return
        known = self._cpu.get(info.n_threads)
        if isinstance(known, UnknownLimit) and known.is_temporary:
            del self._cpu[info.n_threads]
        for device in reading_devices(info.reads.bytes_at(1)):
            self._bandwidth(device, info)

    def measured(self, info: EngineInfo, run: Run) -> Mapping[str, float]:
        """Return the roofline of one iteration; {} if it is not requested or undefined."""
        rate = METRICS["tokens_per_sec"].compute(run)
        if not self.is_asked or rate is None:
            return {}
        requests = [(line.prompt_tokens or 0, line.output_tokens) for line in run.timelines]
        limit = self._limit(info, requests)
        return {_NAME: limit.share(rate)} if isinstance(limit, Limit) else {}

    def limit_of(self, info: EngineInfo, workload: Workload) -> Limit | UnknownLimit | None:
        """Return the limit of a recorded workload, or why it is unknown.

        None if not requested, or for a workload without a decode step.
        """
        if not self.is_asked:
            return None
        requests = [(len(r.prompt_token_ids), r.output_tokens) for r in workload.requests]
        return self._limit(info, requests)

    def share(
        self, info: EngineInfo, workload: Workload, rows: Sequence[CheckResult]
    ) -> RooflineShare | None:
        """Return the roofline of one test for reports; None if there is none to report."""
        limit = self.limit_of(info, workload)
        row = next((row for row in rows if row.check.metric.name == _NAME), None)
        if isinstance(limit, UnknownLimit):
            judged = row is not None and row.verdict is not None
            return RooflineShare(None, problem=limit.text, in_verdict=judged)
        if limit is None:
            return None
        return RooflineShare(limit, row.summary.value if row and row.summary else None)

    def _limit(
        self, info: EngineInfo, requests: Sequence[tuple[int, int]]
    ) -> Limit | UnknownLimit | None:
        if info.reads is None:
            return UnknownLimit(f"the {info.engine} engine does not say what it reads from memory")
        if info.reads.problem:
            return UnknownLimit(info.reads.problem)
        reads = decode_reads(info.reads, requests)
        if reads is None:
            return None
        bandwidths: dict[str, Bandwidth] = {}
        for device in reading_devices(reads.by_device):
            bandwidth = self._bandwidth(device, info)
            if isinstance(bandwidth, UnknownLimit):
                return bandwidth
            bandwidths[device] = bandwidth
        return Limit(reads, bandwidths, info.reads.model_bytes)

    def _bandwidth(self, device: str, info: EngineInfo) -> Bandwidth | UnknownLimit:
        if device == "CPU":
            if info.n_threads not in self._cpu:
                self._cpu[info.n_threads] = _of_cpu(info.n_threads)
            return self._cpu[info.n_threads]
        if self._gpus is None:
            self._gpus = gpu_bandwidths()
        return bandwidth_of_gpu(device, info, self._gpus)


def roofline_lines(view: RooflineShare | None) -> Iterator[str]:
    """Yield lines that explain the limit and its basis, or why there is none."""
    if view is None or (view.limit is None and view.in_verdict):
        return
    if view.limit is None:
        yield f"roofline unknown: {view.problem}"
        return
    limit, reads = view.limit, view.limit.reads
    weights, cache = sum(reads.weights.values()), sum(reads.cache.values())
    measured = "" if view.share is None else f"{_percent(view.share)} of "
    at = ", ".join(_device(name, rate, limit) for name, rate in limit.bandwidths.items())
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
                "bandwidth": None if rate is None else rate.bytes_per_s,
                "how": None if rate is None else rate.how,
                "spread": None if rate is None else rate.spread,
            }
            for name in reads.by_device
            for rate in [limit.bandwidths.get(name)]
        },
    }


def _of_cpu(n_threads: int) -> Bandwidth | UnknownLimit:
    from pytest_llmperf.machine.cpu_bandwidth import (
        BandwidthError,
        BusyError,
        last_level_cache,
        measure_cpu_bandwidth,
    )

    try:
        measured = measure_cpu_bandwidth(n_threads)
    except BandwidthError as error:
        return UnknownLimit(str(error), is_temporary=isinstance(error, BusyError))
    return Bandwidth(
        measured.bytes_per_s,
        f"measured, a stream on {count(measured.threads, 'thread')}",
        spread=1.0 - measured.median_bytes_per_s / measured.bytes_per_s,
        cache_bytes=last_level_cache() or 0,
    )


def bandwidth_of_gpu(
    device: str, info: EngineInfo, gpus: Sequence[GpuBandwidth]
) -> Bandwidth | UnknownLimit:
    """Return the bandwidth of an engine's device, found among NVML's by its name."""
    loads = () if info.gpu is None else info.gpu.devices
    named = next((load.description for load in loads if load.name == device), "")
    known = [gpu for gpu in gpus if gpu.gpu and named.startswith(gpu.gpu)]
    if not known:
        what = f"{device} ({named})" if named else device
        return UnknownLimit(f"the bandwidth of {what} is not known: NVML does not list that device")
    # The longest match: "RTX 4070 Ti" is not "RTX 4070".
    length = max(len(gpu.gpu) for gpu in known)
    alike = [gpu for gpu in known if len(gpu.gpu) == length]
    unknown = next((gpu for gpu in alike if gpu.bytes_per_s is None), None)
    if unknown is not None:
        return UnknownLimit(unknown.how)
    # Slices with the same name may differ; the limit must not claim more than the device has.
    slowest = min(alike, key=lambda gpu: gpu.bytes_per_s or 0.0)
    return Bandwidth(slowest.bytes_per_s or 0.0, f"{slowest.how}, NVML")


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
        "decoding only reads, but the bandwidth was measured with a stream that also writes, which "
        "can be slower (docs/roofline.md)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _mega(size: float) -> str:
    return f"{size / 1e6:.4g} MB" if size < 1e9 else f"{size / 1e9:.4g} GB"


def _giga(rate: float) -> str:
    billions = rate / 1e9
    return f"{billions:.3g}" if billions < 100 else f"{billions:.0f}"


def _rate(value: float) -> str:
    return format_quantity(value, Unit.TOKENS_PER_SECOND)
