"""What the machine does before, during and after each engine process of a measure stage."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.gpu.watch import GpuWatch
from pytest_llmperf.machine.host import HostWatch
from pytest_llmperf.machine.load import LoadWatch
from pytest_llmperf.session.machine_watch import MachineWatch, machine_findings
from pytest_llmperf.session.waiting import FitWait
from pytest_llmperf.session.watch_settings import WatchSettings

#: Seconds of one look at the machine: as short as CPU counters allow.
_LOOK_S = 0.6


class ProcessWatch:
    """Waits before an engine process starts, looks on while it loads, and watches its replays."""

    def __init__(self, settings: WatchSettings, wait: FitWait) -> None:
        self._settings = settings
        self._wait = wait
        self._loading: LoadWatch | None = None

    def before(self) -> float:
        """Wait for the machine, if asked to; return the seconds that took."""
        waited = self._wait.wait(self._look)
        if self._loading is None:  # else the other process of the pair has just started
            self._loading = LoadWatch.start()
        return waited

    def __call__(self, client: EngineClient) -> MachineWatch:
        """Watch the replays of one test in the process of ``client``."""
        loading, self._loading = self._loading, None
        early = [] if loading is None else machine_findings(self._settings, loading.stop())
        return MachineWatch(self._settings, client, [_early(one) for one in early])

    def _look(self) -> Sequence[FitnessFinding]:
        telemetry, gpus = self._settings.telemetry, list[FitnessFinding]()
        load, host = LoadWatch.start(), HostWatch()
        # No engine lives on a card now: everybody there is a stranger.
        watch = None if telemetry is None else GpuWatch(telemetry, os.getpid())
        time.sleep(_LOOK_S)
        if watch is not None:
            watch.stop()
            gpus = watch.findings_at_rest()
        return machine_findings(self._settings, load.stop(), host.report(), gpus)


def _early(finding: FitnessFinding) -> FitnessFinding:
    """Return what was found while a process started: it touched nothing that was measured."""
    return replace(
        finding,
        severity="note" if finding.severity == "note" else "warn",
        text=finding.text.replace(" while measuring", " while the engine loaded"),
        evidence={**finding.evidence, "when": "before"},
    )
