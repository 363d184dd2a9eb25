"""Provides each device's bandwidth for rooflines, measured once and only on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.machine.gpu.bandwidth import GpuBandwidth, gpu_bandwidths
from pytest_llmperf.measure.roofline import Bandwidth, Limit, decode_reads, reading_devices
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.session.roofline_share import RooflineShare
from pytest_llmperf.timeline import Timeline

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.measure.workload import Workload
    from pytest_llmperf.session.result import CheckResult

NAME = "roofline"


def with_roofline(checks: Sequence[Check], tolerance: float) -> list[Check]:
    """Return a test's checks, with its roofline added as shown if it is not gated."""
    from pytest_llmperf.gate.check import Check

    if any(check.metric.name == NAME for check in checks):
        return list(checks)
    return [*checks, Check(METRICS[NAME], None, tolerance, gated=False, asked=False)]


@dataclass(frozen=True)
class Unknown:
    """The reason why a limit is unknown.

    Attributes:
        text: the reason, a sentence without an end.
        for_now: whether it is temporary: the machine was disturbed.
    """

    text: str
    for_now: bool = False


class RooflineMeter:
    """Measures the machine's bandwidths and computes the limit of a workload.

    Args:
        checks: of all tests; without a roofline among them nothing is ever measured.
    """

    def __init__(self, checks: Iterable[Check] = ()) -> None:
        self.is_asked = any(check.metric.name == NAME for check in checks)
        self._cpu: dict[int, Bandwidth | Unknown] = {}
        self._gpus: tuple[GpuBandwidth, ...] | None = None

    def prepare(self, info: EngineInfo) -> None:
        """Look up or measure the bandwidths needed for this engine's limit.

        Call it while no engine is working: measuring uses the whole memory bandwidth.
        """
        if not self.is_asked or info.reads is None or info.reads.problem:
            return
        known = self._cpu.get(info.n_threads)
        if isinstance(known, Unknown) and known.for_now:
            del self._cpu[info.n_threads]
        for device in reading_devices(info.reads.at(1)):
            self._bandwidth(device, info)

    def measured(self, info: EngineInfo, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Return the roofline of one iteration; {} if it is not requested or undefined."""
        rate = METRICS["tokens_per_sec"].compute(timelines)
        if not self.is_asked or rate is None:
            return {}
        requests = [(one.prompt_tokens or 0, one.output_tokens) for one in timelines]
        limit = self._limit(info, requests)
        return {NAME: limit.share(rate)} if isinstance(limit, Limit) else {}

    def limit_of(self, info: EngineInfo, workload: Workload) -> Limit | Unknown | None:
        """Return the limit of a recorded workload, or why it is unknown.

        None if not requested, or for a workload without a decode step.
        """
        if not self.is_asked:
            return None
        requests = [(len(one.prompt_token_ids), one.output_tokens) for one in workload.requests]
        return self._limit(info, requests)

    def share(
        self, info: EngineInfo, workload: Workload, rows: Sequence[CheckResult]
    ) -> RooflineShare | None:
        """Return the roofline of one test for reports; None if there is none to report."""
        limit = self.limit_of(info, workload)
        row = next((row for row in rows if row.check.metric.name == NAME), None)
        if isinstance(limit, Unknown):
            judged = row is not None and row.verdict is not None
            return RooflineShare(None, problem=limit.text, in_verdict=judged)
        if limit is None:
            return None
        return RooflineShare(limit, row.summary.value if row and row.summary else None)

    def _limit(
        self, info: EngineInfo, requests: Sequence[tuple[int, int]]
    ) -> Limit | Unknown | None:
        if info.reads is None:
            return Unknown(f"the {info.engine} engine does not say what it reads from memory")
        if info.reads.problem:
            return Unknown(info.reads.problem)
        reads = decode_reads(info.reads, requests)
        if reads is None:
            return None
        found: dict[str, Bandwidth] = {}
        for device in reading_devices(reads.by_device):
            bandwidth = self._bandwidth(device, info)
            if isinstance(bandwidth, Unknown):
                return bandwidth
            found[device] = bandwidth
        return Limit(reads, found, info.reads.model_bytes)

    def _bandwidth(self, device: str, info: EngineInfo) -> Bandwidth | Unknown:
        if device == "CPU":
            if info.n_threads not in self._cpu:
                self._cpu[info.n_threads] = _of_cpu(info.n_threads)
            return self._cpu[info.n_threads]
        if self._gpus is None:
            self._gpus = gpu_bandwidths()
        return bandwidth_of_gpu(device, info, self._gpus)


def _of_cpu(n_threads: int) -> Bandwidth | Unknown:
    from pytest_llmperf.machine.cpu_bandwidth import (
        BandwidthError,
        BusyError,
        last_level_cache,
        measure_cpu_bandwidth,
    )

    try:
        found = measure_cpu_bandwidth(n_threads)
    except BandwidthError as error:
        return Unknown(str(error), for_now=isinstance(error, BusyError))
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    return Bandwidth(
        found.bytes_per_s,
        f"measured, a stream on {threads}",
        spread=1.0 - found.median_bytes_per_s / found.bytes_per_s,
        cache_bytes=last_level_cache() or 0,
    )


def bandwidth_of_gpu(
    device: str, info: EngineInfo, gpus: Sequence[GpuBandwidth]
) -> Bandwidth | Unknown:
    """Return the bandwidth of an engine's device, found among NVML's by its name."""
    loads = () if info.gpu is None else info.gpu.devices
    named = next((load.description for load in loads if load.name == device), "")
    known = [gpu for gpu in gpus if gpu.gpu and named.startswith(gpu.gpu)]
    if not known:
        what = f"{device} ({named})" if named else device
        return Unknown(f"the bandwidth of {what} is not known: NVML does not list that device")
    # The longest match: "RTX 4070 Ti" is no "RTX 4070".
    length = max(len(gpu.gpu) for gpu in known)
    alike = [gpu for gpu in known if len(gpu.gpu) == length]
    untold = next((gpu for gpu in alike if gpu.bytes_per_s is None), None)
    if untold is not None:
        return Unknown(untold.how)
    # Slices of one name may differ; the limit must not claim more than the device has.
    slowest = min(alike, key=lambda gpu: gpu.bytes_per_s or 0.0)
    return Bandwidth(slowest.bytes_per_s or 0.0, f"{slowest.how}, NVML")
