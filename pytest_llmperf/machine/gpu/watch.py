"""A watch over the GPUs for one engine process, with its metrics and findings."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.gpu.fitness import judge_at_rest, judge_gpus
from pytest_llmperf.machine.gpu.metrics import (
    GPU_METRICS,
    NOT_BY_PROCESS,
    MetricReading,
    energy_per_token,
    memory,
    power,
    utilization,
)
from pytest_llmperf.machine.gpu.summary import TelemetrySummary, summarise
from pytest_llmperf.machine.gpu.telemetry import HZ, Telemetry
from pytest_llmperf.machine.gpu.windows import Span, spans_of
from pytest_llmperf.run import Run


class GpuWatch:
    """Watches the GPUs from its creation to ``stop``.

    Args:
        telemetry: the NVML session.
        engine_pids: the engine's processes; their children count as the engine.
        hz: samples per second; two watches of a pair share them.
        beside: the other engine of a pair runs at the same time. Metrics that the driver counts
            for the whole card then have no value.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        engine_pids: Collection[int],
        hz: float = HZ,
        *,
        beside: bool = False,
    ) -> None:
        self._telemetry = telemetry
        self._beside = beside
        #: Number of this session's engines that may be on the cards under unknown process ids.
        self._engines = (2 if beside else 1) if engine_pids else 0
        self._sampler = telemetry.watch(engine_pids, hz / 2 if beside else hz, beside=beside)
        self._iterations: list[list[Span]] = []
        self._turns: list[Span] = []
        self._why: dict[str, str] = {}

    def iteration_metrics(self, run: Run) -> Mapping[str, float]:
        """Return the GPU metrics of one counted iteration, right after its end."""
        spans = spans_of(run, time.perf_counter())
        self._iterations.append(spans)
        tracks, owners = self._sampler.tracks(), self._sampler.owners
        return self._values(
            gpu_memory=memory(tracks, owners, spans, shared=self._beside),
            gpu_utilization=NOT_BY_PROCESS if self._beside else utilization(tracks, owners, spans),
        )

    def record_turn(self, run: Run) -> None:
        """Record a replay in turns: fitness findings cover the card's state during it, too."""
        self._turns += spans_of(run, time.perf_counter())

    def overall_metrics(self) -> Mapping[str, float]:
        """Return the GPU metrics of all counted iterations together."""
        if self._beside:
            return self._values(gpu_power=NOT_BY_PROCESS, energy_per_token=NOT_BY_PROCESS)
        tracks, owners = self._sampler.tracks(), self._sampler.owners
        return self._values(
            gpu_power=power(tracks, owners, self._iterations),
            energy_per_token=energy_per_token(tracks, owners, self._iterations),
        )

    def missing_reasons(self) -> Mapping[str, str]:
        """Return by metric name why a metric has no value."""
        return dict(self._why)

    def findings(self) -> list[FitnessFinding]:
        """Return the fitness findings so far."""
        spans = [*self._spans(), *self._turns]
        return judge_gpus(self._sampler.tracks(), self._sampler.owners, spans, self._engines)

    def findings_at_rest(self, engines: int = 0) -> list[FitnessFinding]:
        """Return the fitness findings while ``engines`` of this session are idle."""
        return judge_at_rest(self._sampler.tracks(), self._sampler.owners, engines)

    def summary(self) -> TelemetrySummary:
        """Summarise the GPUs while the engine decoded, or over its whole life if it did not."""
        tracks, owners = self._sampler.tracks(), self._sampler.owners
        return summarise(tracks, owners, self._spans(), shared=self._beside)

    def stop(self) -> None:
        """End the sampling; may be called again."""
        self._sampler.stop()

    def _spans(self) -> list[Span]:
        return [span for iteration in self._iterations for span in iteration]

    def _values(self, **readings: MetricReading) -> Mapping[str, float]:
        values = {}
        for name, reading in readings.items():
            if reading.value is not None:
                values[name] = reading.value
            else:
                self._why[name] = reading.why
            if reading.remark:
                self._telemetry.note(reading.remark)
        return values


def no_gpu(why: str) -> Mapping[str, str]:
    """Return ``why`` for each GPU metric, as the reason that none has a value."""
    return dict.fromkeys(GPU_METRICS, why)
