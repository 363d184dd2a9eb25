"""Watches the machine while one test is replayed in one engine process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.environment.busy import LoadWatch
from pytest_llmperf.environment.fitness import FitnessFinding, judge
from pytest_llmperf.environment.gpu_watch import GpuWatch, no_gpu
from pytest_llmperf.environment.telemetry_summary import TelemetrySummary
from pytest_llmperf.fitness_checks import SEVERITIES
from pytest_llmperf.plugin.facts import SessionFacts
from pytest_llmperf.timeline import Timeline

#: Seconds of watching after which an unfit machine is given up on for this process.
_CLEARLY_S = 5.0


class MachineWatch:
    """Watches the machine while one test is replayed in the process of ``client``."""

    def __init__(self, facts: SessionFacts, client: EngineClient) -> None:
        self._facts = facts
        self._client = client
        # It may measure: before anything is watched, and while the engine has nothing to do.
        facts.roofline.prepare(client.info)
        self._load = LoadWatch.start()
        self._gpus = None if facts.telemetry is None else GpuWatch(facts.telemetry, client.pid)

    def measured(self, timelines: Sequence[Timeline]) -> Mapping[str, float]:
        """Return what was measured beside one counted iteration."""
        gpus = {} if self._gpus is None else self._gpus.measured(timelines)
        return {**gpus, **self._facts.roofline.measured(self._client.info, timelines)}

    def whole(self, iterations: Sequence[Sequence[Timeline]]) -> Mapping[str, float]:  # noqa: ARG002
        """Return what they did beside all of them together."""
        return {} if self._gpus is None else self._gpus.whole()

    def undefined(self) -> Mapping[str, str]:
        """Say why a metric has no value."""
        return no_gpu(self._facts.no_gpu) if self._gpus is None else self._gpus.undefined()

    def telemetry(self) -> TelemetrySummary | None:
        """Return what the GPUs did while the engine decoded."""
        return None if self._gpus is None else self._gpus.summary()

    def sample(self) -> str | None:
        """Look once more, between two replays; say why the process is clearly lost.

        An engine that waits for its cores can be fifty times slower: there is no need to
        wait for it to the end. A short window proves nothing, a neighbour may be gone again;
        a card does not come back.
        """
        self._load.sample()
        report = self._load.stop()
        gpus = [] if self._gpus is None else self._gpus.findings()
        if report.seconds < _CLEARLY_S:
            gone = (one.text for one in gpus if one.name == "gpu_lost")
            return next(gone, None)
        found = [*judge(report, usable_cpus(), self._facts.n_threads), *gpus]
        return next((one.text for one in found if one.severity == "invalid"), None)

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and say what was found, worst first."""
        found = judge(self._load.stop(), usable_cpus(), self._facts.n_threads)
        if self._gpus is not None:
            self._gpus.stop()
            found = [*found, *self._gpus.findings()]
        return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))
