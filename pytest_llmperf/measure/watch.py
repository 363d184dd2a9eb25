"""Interface of the watch over the machine during a measure stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.gpu.summary import TelemetrySummary
from pytest_llmperf.run import Run


class Watch(Protocol):
    """A watch over the machine while one test is replayed in one process.

    Beside the generations it measures metrics: values by metric name, in base units. A metric
    that can't be measured is left out.
    """

    def iteration_metrics(self, run: Run) -> Mapping[str, float]:
        """Return the watch's metrics of one counted iteration, right after its end."""

    def record_turn(self, run: Run) -> None:
        """Take note of a replay in turns of tokens, right after its end."""

    def overall_metrics(self, runs: Sequence[Run]) -> Mapping[str, float]:
        """Return the watch's metrics of all counted iterations: one value per process."""

    def sample(self) -> FitnessFinding | None:
        """Take a sample of the machine between two replays.

        Return the finding that voids the process, if that is already certain and continuing
        would waste time; None otherwise.
        """

    def missing_reasons(self) -> Mapping[str, str]:
        """Return why metrics of the watch have no value, by metric name."""

    def telemetry(self) -> TelemetrySummary | None:
        """Summarise the GPUs while the engine decoded; None if none is watched."""

    def cpu_mhz(self) -> float | None:
        """Return the CPU's clock, MHz; None if unknown, or if the engine may not compute there."""

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and return its findings; may be called again."""
