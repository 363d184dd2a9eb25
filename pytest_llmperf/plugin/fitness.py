"""What the machine does before, during and after each engine process of a measure stage."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.environment.busy import LoadWatch
from pytest_llmperf.environment.fitness import FitnessFinding
from pytest_llmperf.environment.gpu_watch import GpuWatch
from pytest_llmperf.environment.host import HostWatch
from pytest_llmperf.plugin.console import Console
from pytest_llmperf.plugin.facts import SessionFacts
from pytest_llmperf.plugin.machine_watch import MachineWatch, machine_findings
from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.settings import Settings
from pytest_llmperf.plugin.waiting import FitWait
from pytest_llmperf.report.model import SessionView

#: Seconds of one look at the machine: as short as CPU counters allow.
_LOOK_S = 0.6
_KEY = pytest.StashKey[FitWait]()


def fit_wait(config: pytest.Config, settings: Settings, console: Console) -> FitWait:
    """Return the session's account of waiting; all of its measure stages share it."""
    if _KEY not in config.stash:
        asked = Options.of(config).wait_fit
        total = settings.loaded.config.perf.wait_fit if asked is None else asked
        config.stash[_KEY] = FitWait(total or 0.0, console.line)
    return config.stash[_KEY]


def told_waiting(view: SessionView, wait: FitWait) -> SessionView:
    """Return the session with how long it waited for the machine, where it did."""
    if not wait.seconds:
        return view
    return replace(view, waited_s=wait.seconds, notes=(*view.notes, wait.summary()))


class ProcessWatch:
    """Waits before an engine process starts, looks on while it loads, and watches its replays."""

    def __init__(self, facts: SessionFacts, wait: FitWait) -> None:
        self._facts = facts
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
        early = [] if loading is None else machine_findings(self._facts, loading.stop())
        return MachineWatch(self._facts, client, [_early(one) for one in early])

    def _look(self) -> Sequence[FitnessFinding]:
        telemetry, gpus = self._facts.telemetry, list[FitnessFinding]()
        load, host = LoadWatch.start(), HostWatch()
        # No engine lives on a card now: everybody there is a stranger.
        watch = None if telemetry is None else GpuWatch(telemetry, os.getpid())
        time.sleep(_LOOK_S)
        if watch is not None:
            watch.stop()
            gpus = watch.findings_at_rest()
        return machine_findings(self._facts, load.stop(), host.report(), gpus)


def _early(finding: FitnessFinding) -> FitnessFinding:
    """Return what was found while a process started: it touched nothing that was measured."""
    return replace(
        finding,
        severity="note" if finding.severity == "note" else "warn",
        text=finding.text.replace(" while measuring", " while the engine loaded"),
        evidence={**finding.evidence, "when": "before"},
    )
