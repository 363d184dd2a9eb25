"""The GPUs beside one engine process: sampled from start to stop, told as metrics and findings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.gpu.fitness import judge_at_rest, judge_gpus
from pytest_llmperf.machine.gpu.metrics import (
    GPU_METRICS,
    MetricReading,
    energy_per_token,
    memory,
    power,
    utilization,
)
from pytest_llmperf.machine.gpu.summary import TelemetrySummary, summarise
from pytest_llmperf.machine.gpu.telemetry import HZ, Telemetry
from pytest_llmperf.machine.gpu.windows import Span, spans_of
from pytest_llmperf.timeline import Timeline


class GpuWatch:
    """Watches the GPUs from its making to ``stop``.

    Args:
        telemetry: the session with NVML.
        engine_pid: the engine's process; what it starts counts as it.
        hz: samples a second.
    """

    def __init__(self, telemetry: Telemetry, engine_pid: int, hz: float = HZ) -> None:
        self._telemetry = telemetry
        self._sampler = telemetry.watch(engine_pid, hz)
        self._iterations: list[list[Span]] = []
        self._why: dict[str, str] = {}

    def measured(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Return what one counted iteration took, as soon as it is over."""
        spans = spans_of(timelines, time.perf_counter())
        self._iterations.append(spans)
        tracks, who = self._sampler.tracks(), self._sampler.guests
        return self._told(
            gpu_memory=memory(tracks, who, spans),
            gpu_utilization=utilization(tracks, who, spans),
        )

    def whole(self) -> Mapping[str, float]:
        """Return what all counted iterations took together."""
        tracks, who = self._sampler.tracks(), self._sampler.guests
        return self._told(
            gpu_power=power(tracks, who, self._iterations),
            energy_per_token=energy_per_token(tracks, who, self._iterations),
        )

    def undefined(self) -> Mapping[str, str]:
        """Return why a metric has no value, by its name."""
        return dict(self._why)

    def findings(self) -> list[FitnessFinding]:
        """Return what was unfit so far."""
        return judge_gpus(self._sampler.tracks(), self._sampler.guests, self._spans())

    def findings_at_rest(self) -> list[FitnessFinding]:
        """Return what makes the GPUs unfit while no engine of this session is on them."""
        return judge_at_rest(self._sampler.tracks(), self._sampler.guests)

    def summary(self) -> TelemetrySummary:
        """Return what the GPUs did while the engine decoded; of its whole life without that."""
        return summarise(self._sampler.tracks(), self._sampler.guests, self._spans())

    def stop(self) -> None:
        """End the sampling; harmless when repeated."""
        self._sampler.stop()

    def _spans(self) -> list[Span]:
        return [span for iteration in self._iterations for span in iteration]

    def _told(self, **found: MetricReading) -> Mapping[str, float]:
        values = {}
        for name, told in found.items():
            if told.value is not None:
                values[name] = told.value
            else:
                self._why[name] = told.why
            if told.remark:
                self._telemetry.note(told.remark)
        return values


def no_gpu(why: str) -> Mapping[str, str]:
    """Return why none of the GPU's metrics has a value, by name, where no GPU is watched."""
    return dict.fromkeys(GPU_METRICS, why)
