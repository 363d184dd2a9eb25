"""Watches the machine: waits for it to be fit, then observes it during each engine process."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import (
    CLOCK_LOOKS,
    FitnessFinding,
    HostNeeds,
    judge,
    judge_host,
    with_severities,
    worst_first,
)
from pytest_llmperf.machine.gpu.summary import TelemetrySummary
from pytest_llmperf.machine.gpu.telemetry import Telemetry
from pytest_llmperf.machine.gpu.watch import GpuWatch, no_gpu
from pytest_llmperf.machine.host import HostReport, HostWatch
from pytest_llmperf.machine.load import BusyReport, LoadWatch
from pytest_llmperf.measure.turns import Turns
from pytest_llmperf.run import Run
from pytest_llmperf.session.roofline import RooflineMeter
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.engine_kinds import EngineKind
    from pytest_llmperf.fitness_checks import Severity

#: Seconds of one observation of the machine: as short as CPU counters allow.
_OBSERVATION_SECONDS = 0.6
#: Seconds of observation before a process may be abandoned because the machine is unfit.
_MIN_SECONDS_TO_ABANDON = 5.0


@dataclass(frozen=True)
class WatchSettings:
    """Settings of a machine watch.

    Attributes:
        need: host resources that the engines need.
        severities: configured severities of fitness checks, by the check's name.
        telemetry: the open NVML session while GPUs are watched, or None.
        no_gpu: why no GPU is watched; empty if one is.
        roofline: computes the limits set by this machine's memory.
        diagnosing: an unfit machine is itself a result: no process is abandoned for it, and
            findings from before the replays are ignored.
    """

    need: HostNeeds
    severities: Mapping[str, Severity] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    no_gpu: str = ""
    roofline: RooflineMeter = field(default_factory=RooflineMeter)
    diagnosing: bool = False


def machine_findings(
    settings: WatchSettings,
    load: BusyReport,
    host: HostReport | None = None,
    gpus: Sequence[FitnessFinding] = (),
) -> list[FitnessFinding]:
    """Return findings on the machine, with configured severities, worst first."""
    findings = judge(load, settings.need)
    if host is not None:
        findings += judge_host(host, settings.need)
    return with_severities([*findings, *gpus], settings.severities)


def settings_for(settings: WatchSettings, kind: EngineKind) -> WatchSettings:
    """Return the settings for watching the machine while an engine of this kind is measured.

    If it computes elsewhere, or in processes that are not known to be its own, its work can't be
    told from that of others, on cores or on GPUs.
    """
    if kind.computes_here:
        return settings
    return replace(
        settings,
        severities={**settings.severities, "busy_cores": "note"},
        telemetry=None,
        no_gpu="the engine computes in processes that this session did not start, whose GPUs are "
        "not watched; remove the marker",
    )


class MachineWatch:
    """Watches the machine while one test is replayed in the process of ``client``.

    ``early``: findings made while the process started; they are reported, but void no
    measurement. ``beside``: the pair's other process runs at the same time.
    """

    def __init__(
        self,
        settings: WatchSettings,
        client: EngineClient,
        early: Sequence[FitnessFinding] = (),
        *,
        beside: bool = False,
    ) -> None:
        self._settings = settings = settings_for(settings, client.kind)
        self._client = client
        self._early = early
        self._beside = beside
        # This may measure bandwidth, so it runs before the watch, while the engine is idle.
        settings.roofline.prepare(client.info)
        self._load = LoadWatch()
        self._host = HostWatch(client.processes)
        self._gpus = (
            None
            if settings.telemetry is None
            else GpuWatch(settings.telemetry, client.processes, beside=beside)
        )

    def iteration_metrics(self, run: Run) -> Mapping[str, float]:
        """Return the metrics measured during one counted iteration."""
        self._host.timed()
        gpus = {} if self._gpus is None else self._gpus.iteration_metrics(run)
        return {**gpus, **self._settings.roofline.measured(self._client.info, run)}

    def record_turn(self, run: Run) -> None:
        """Note a replay that took turns of tokens."""
        if self._gpus is not None:
            self._gpus.record_turn(run)

    def overall_metrics(self, runs: Sequence[Run]) -> Mapping[str, float]:  # noqa: ARG002
        """Return the GPU metrics over all counted iterations together."""
        return {} if self._gpus is None else self._gpus.overall_metrics()

    def missing_reasons(self) -> Mapping[str, str]:
        """Return why metrics have no value, by the metric's name."""
        return no_gpu(self._settings.no_gpu) if self._gpus is None else self._gpus.missing_reasons()

    def telemetry(self) -> TelemetrySummary | None:
        """Return a summary of the GPUs during decoding."""
        return None if self._gpus is None else self._gpus.summary()

    def cpu_mhz(self) -> float | None:
        """Return the CPU's clock right after replays; None unless layers are known to run on it."""
        gpu = self._client.info.gpu
        if gpu is None or gpu.layers_on_gpu == gpu.total_layers:
            return None
        # Several readings, because a single one may be of an idle core.
        clocks = self._host.report().clocks_mhz
        return median(clocks) if len(clocks) >= 2 * CLOCK_LOOKS else None

    def sample(self) -> FitnessFinding | None:
        """Check the machine between two replays; return a reason to abandon the process, or None.

        An engine that waits for its cores can be fifty times slower, and need not be measured
        to the end. A short observation proves nothing, as a foreign process may soon end; but a
        lost GPU does not come back.
        """
        self._load.sample()
        self._host.look()
        if self._settings.diagnosing:
            return None
        report = self._load.stop()
        gpus = [] if self._gpus is None else self._gpus.findings()
        findings = machine_findings(self._settings, report, self._host.report(), gpus)
        if report.seconds < _MIN_SECONDS_TO_ABANDON:
            findings = [finding for finding in findings if finding.name == "gpu_lost"]
        return next((finding for finding in findings if finding.severity == "invalid"), None)

    def stop(self) -> Sequence[FitnessFinding]:
        """End the watch and return its findings, worst first."""
        load, host = self._load.stop(), self._host.report()
        if self._gpus is not None:
            self._gpus.stop()
        gpus = [] if self._gpus is None else self._gpus.findings()
        findings = machine_findings(self._settings, load, host, gpus)
        if self._beside:
            findings = worst_first([_hits_one(finding) for finding in findings])
        known = {finding.name for finding in findings}
        return [*findings, *(finding for finding in self._early if finding.name not in known)]


def worth_waiting_for(findings: Sequence[FitnessFinding]) -> list[FitnessFinding]:
    """Return the findings worth waiting for: they would void a sample, but may pass."""
    return [
        finding
        for finding in findings
        if finding.severity == "invalid" and CHECKS[finding.name].origin == "machine"
    ]


class FitWait:
    """Waits for a busy machine to become quiet, and counts the session's waiting time.

    Args:
        total: maximum seconds to wait in all; 0 never checks.
        say: shows why the session waits, and later whether it was in vain.
    """

    def __init__(self, total: float = 0.0, say: Callable[[str], None] = lambda _: None) -> None:
        self._total = total
        self._show = say
        #: Seconds waited so far.
        self.seconds = 0.0
        #: The findings that remained when the time was used up.
        self.unfit: tuple[FitnessFinding, ...] = ()
        self._said = False

    def wait(self, look: Callable[[], Sequence[FitnessFinding]]) -> float:
        """Wait until the machine is fit or the time is used up; return the seconds it took.

        ``look`` observes the machine for a moment and returns its problems. The first observation
        does not count as waiting.
        """
        if self.seconds >= self._total:
            return 0.0
        began = time.monotonic()
        findings = worth_waiting_for(look())
        first = time.monotonic()
        before = self.seconds
        while findings and self.seconds < self._total:
            self._say(findings)
            findings = worth_waiting_for(look())
            self.seconds = before + (time.monotonic() - first)
        if findings:
            self.unfit = tuple(findings)
            self._show(f"the machine is still busy or hot, measuring anyway: {_words(findings)}")
        return time.monotonic() - began

    def summary(self) -> str:
        """Return how long the session waited; empty if it did not."""
        if not self.seconds:
            return ""
        text = (
            f"waited {format_duration(max(round(self.seconds), 1))} for the machine to become quiet"
        )
        return f"{text}; it was still busy or hot: {_words(self.unfit)}" if self.unfit else text

    def _say(self, found: Sequence[FitnessFinding]) -> None:
        if not self._said:
            self._said = True
            self._show(
                f"waiting up to {format_duration(self._total)} for the machine to become quiet: "
                f"{_words(found)}"
            )


class ProcessWatch:
    """Waits for the machine before an engine process starts, then watches its load and replays."""

    def __init__(self, settings: WatchSettings, wait: FitWait) -> None:
        self._settings = settings
        self._wait = wait
        self._loading: LoadWatch | None = None
        self._beside = False

    def before(self, turns: Turns | None = None) -> float:
        """Wait for the machine, if configured; return the seconds it took.

        ``turns``: how the process will take turns with another; with turns of tokens, it does not
        wait for disturbances that hit both alike.
        """
        self._beside = turns is not None
        waited = self._wait.wait(partial(self._look, turns))
        if self._loading is None:  # else the other process of the pair has just started
            self._loading = LoadWatch()
        return waited

    def __call__(self, client: EngineClient) -> MachineWatch:
        """Watch the replays of one test in the process of ``client``."""
        loading, self._loading = self._loading, None
        early: list[FitnessFinding] = []
        if loading is not None and not self._settings.diagnosing:
            early = machine_findings(self._settings, loading.stop())
        early = [_early(finding) for finding in early]
        return MachineWatch(self._settings, client, early, beside=self._beside)

    def _look(self, turns: Turns | None) -> Sequence[FitnessFinding]:
        telemetry, gpus = self._settings.telemetry, list[FitnessFinding]()
        load, host = LoadWatch(), HostWatch()
        # Every process on a GPU is foreign, except the pair's other engine if it already runs.
        engines = int(self._loading is not None)
        watch = None if telemetry is None else GpuWatch(telemetry, [os.getpid()])
        time.sleep(_OBSERVATION_SECONDS)
        if watch is not None:
            watch.stop()
            gpus = watch.findings_at_rest(engines)
        findings = machine_findings(self._settings, load.stop(), host.report(), gpus)
        return [item for item in findings if turns != "tokens" or not CHECKS[item.name].hits_both]


def _hits_one(finding: FitnessFinding) -> FitnessFinding:
    """Make a finding about two processes on one GPU invalid if it may hit only one of them."""
    if finding.name == "gpu_memory_pressure" and finding.severity == "warn":
        return replace(finding, severity="invalid")
    return finding


def _early(finding: FitnessFinding) -> FitnessFinding:
    """Weaken a finding from a process's start, because it affects no measurement."""
    return replace(
        finding,
        severity="note" if finding.severity == "note" else "warn",
        text=_without_measuring(finding.text, " while the engine loaded"),
        evidence={**finding.evidence, "when": "before"},
    )


def _words(found: Sequence[FitnessFinding]) -> str:
    return "; ".join(_without_measuring(str(finding)) for finding in found)


def _without_measuring(text: str, when: str = "") -> str:
    """Replace the "while measuring" or "while decoding" of a finding's text by ``when``."""
    return re.sub(" while (?:measuring|decoding)", when, text)
