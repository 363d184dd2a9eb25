"""Watches the machine beside an engine that is examined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.environment.busy import BusyReport, LoadWatch
from pytest_llmperf.environment.fitness import FitnessFinding, judge, with_severities
from pytest_llmperf.environment.gpu_watch import GpuWatch
from pytest_llmperf.environment.host import HostReport, HostWatch
from pytest_llmperf.environment.host_fitness import Need, judge_host

if TYPE_CHECKING:
    from pytest_llmperf.engine.client import EngineClient
    from pytest_llmperf.environment.telemetry import Telemetry
    from pytest_llmperf.environment.telemetry_summary import TelemetrySummary
    from pytest_llmperf.fitness_checks import Severity
    from pytest_llmperf.timeline import Timeline


def machine_findings(load: BusyReport, host: HostReport, need: Need) -> list[FitnessFinding]:
    """Return what of the machine was unfit for an engine of this need."""
    return [*judge(load, need.cores, need.threads), *judge_host(host, need)]


class DoctorWatch:
    """Watches the machine, and never gives a process up: what is wrong with it is looked for.

    Args:
        client: the engine's process.
        need: what the engine needs of its host.
        severities: of findings, as configured.
        telemetry: the session with NVML, where there are GPUs to watch.
    """

    def __init__(
        self,
        client: EngineClient,
        need: Need,
        severities: Mapping[str, Severity],
        telemetry: Telemetry | None,
    ) -> None:
        self._need = need
        self._severities = severities
        self._load = LoadWatch.start()
        self._host = HostWatch(client.pid)
        self._gpus = GpuWatch(telemetry, client.pid) if telemetry is not None else None

    def measured(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Return what the GPUs did beside one counted iteration."""
        self._host.timed()
        return {} if self._gpus is None else self._gpus.measured(timelines)

    def whole(self, iterations: Sequence[Sequence[Timeline]]) -> Mapping[str, float]:  # noqa: ARG002
        """Return what they did beside all of them together."""
        return {} if self._gpus is None else self._gpus.whole()

    def undefined(self) -> Mapping[str, str]:
        """Nobody asks for a metric here."""
        return {}

    def telemetry(self) -> TelemetrySummary | None:
        """Return what the GPUs did while the engine decoded."""
        return None if self._gpus is None else self._gpus.summary()

    def sample(self) -> None:
        """Look once more, between two replays."""
        self._load.sample()
        self._host.look()

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and say what was found, worst first."""
        found = machine_findings(self._load.stop(), self._host.report(), self._need)
        if self._gpus is not None:
            self._gpus.stop()
            found = [*found, *self._gpus.findings()]
        return with_severities(found, self._severities)
