"""Measurement of a configuration, with and without remedies, in fresh engine processes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_llmperf.diagnosis.load_failure import why_not_loaded
from pytest_llmperf.doctor.gain import (
    JUDGED_METRICS,
    RemedyGain,
    changes_of,
    is_decided,
    judge,
    why_undecided,
)
from pytest_llmperf.doctor.probe import NAME, Probe
from pytest_llmperf.fitness_checks import CHECKS
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replication import replication_unit
from pytest_llmperf.measure.rounds import OpenTest, Undecided
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side, StartEngine, starter_of
from pytest_llmperf.session.context import SilentConsole
from pytest_llmperf.session.machine_watch import FitWait, WatchSettings
from pytest_llmperf.session.measuring import MeasureStage, quick_perf

if TYPE_CHECKING:
    from pytest_llmperf.engine.client import EngineClient
    from pytest_llmperf.engine.launch import LaunchSpec
    from pytest_llmperf.measure.load_pattern import LoadPattern
    from pytest_llmperf.measure.samples import ProcessSample, TestSamples

#: Number of processes for the configuration itself, and of pairs to try a remedy in.
_PROCESSES = 3
_MIN_PAIRS, _MAX_PAIRS = 3, 10
#: A process warms up twice and counts three replays; if those of the configuration itself
#: would take more than this part of the budget, it warms up once and counts one.
_FULL, _SHORT = 5, 2
_FULL_PART = 0.25


@dataclass(frozen=True)
class Measured:
    """Measurements of a configuration.

    Attributes:
        rows: by metric, a row of values per process, invalid ones included.
        findings: fitness findings in any of the processes.
        error: why measuring stopped; empty if it did not.
        processes: number of processes.
        unit: noun for one of them: process, or block of an already running server.
    """

    rows: Mapping[str, tuple[tuple[float, ...], ...]]
    findings: tuple[FitnessFinding, ...]
    error: str
    processes: int
    unit: str = "process"


class Bench:
    """A bench for measuring one workload with different settings.

    Args:
        spec: how the configuration's engine is started.
        probe: the workload, run once.
        start_seconds: time for a process to start.
        budget: total seconds.
        watch: settings of the watch over the machine; the caller holds the device.
    """

    def __init__(
        self,
        spec: LaunchSpec,
        probe: Probe,
        start_seconds: float,
        budget: float,
        watch: WatchSettings,
    ) -> None:
        self._spec = spec
        self._probe = probe
        self._start_seconds = start_seconds
        self._severities = watch.severities
        self._stage = MeasureStage(watch, SilentConsole(), FitWait(), specs=None)
        self._budget = budget
        self._unit = replication_unit(spec.kind)
        #: Seconds of one replay, and the settings that both sides of an attempt have.
        self._seconds = probe.seconds
        self._adopted: dict[str, Any] = {}

    def measure(self, budget: float) -> Measured:
        """Measure the configuration as it is, in at most about ``budget`` seconds."""
        side = Side(CANDIDATE, "as configured", starter_of(self._spec))
        samples = self._run(self._plan(_PROCESSES, _PROCESSES, budget), [side])
        runs = [*samples.processes, *samples.voided]
        names = dict.fromkeys(name for run in runs for row in run.iterations for name in row)
        rows = {name: _rows(runs, name) for name in names}
        findings = tuple(finding for run in runs for finding in run.findings)
        return Measured(rows, findings, samples.error or "", len(runs), self._unit.name)

    def send_load(self, pattern: LoadPattern, budget: float) -> TestSamples:
        """Send a load of the workload's requests, after its warm-up.

        Findings that would void a load for a verdict are only remarks here.
        """
        plan = self._plan(1, 1, budget)
        remarks = [name for name, check in CHECKS.items() if check.origin == "measurement"]
        fitness = {**self._severities, **dict.fromkeys(remarks, "warn")}
        plan = replace(
            plan,
            workloads={NAME: replace(self._probe.workload, load=pattern)},
            perf=plan.perf.model_copy(update={"fitness": fitness}),
        )
        return self._run(plan, [Side(CANDIDATE, "as configured", starter_of(self._spec))])

    def adopt(self, settings: Mapping[str, Any], gain: RemedyGain) -> None:
        """Give further attempts these settings on both sides.

        A cause that a worse one hides shows only once the worse one is remedied: threads that wait
        for each other hide how long reading weights takes.
        """
        self._adopted |= settings
        if (whole := gain.changes.get("end_to_end")) is not None:
            self._seconds *= math.exp(min(whole.effect, 0.0))

    def attempt(self, settings: Mapping[str, Any], budget: float) -> RemedyGain:
        """Try settings on top of the adopted ones; processes with and without them alternate."""
        return self._attempt({**self._adopted, **settings}, self._adopted, budget)

    def attempt_adopted(self, budget: float) -> RemedyGain:
        """Try all adopted settings together against the configuration as it is."""
        self._seconds = self._probe.seconds
        return self._attempt(self._adopted, {}, budget)

    def _attempt(
        self, settings: Mapping[str, Any], base: Mapping[str, Any], budget: float
    ) -> RemedyGain:
        plan = replace(self._plan(_MIN_PAIRS, _MAX_PAIRS, budget), paired=True)
        starts: dict[str, list[float]] = {CANDIDATE: [], BASE: []}
        sides = [
            Side(CANDIDATE, "with the change", self._starter(settings, starts[CANDIDATE])),
            Side(BASE, "as configured", self._starter(base, starts[BASE])),
        ]
        samples = self._run(plan, sides, _open)
        changes = changes_of(samples)
        outcome = judge(changes)
        why = samples.error or ""
        if samples.error:
            outcome, why = "failed", why_not_loaded(samples.error)
        elif samples.given_up:
            outcome, why = "undecided", f"the machine was disturbed: {samples.voided[-1].void}"
        elif outcome == "undecided":
            why = "the time budget ran out" if samples.budget_reached else why_undecided(changes)
        timed = all(starts.values())
        return RemedyGain(
            outcome,
            changes,
            samples.pairs,
            why,
            beside=dict(base),
            start_seconds=(median(starts[CANDIDATE]), median(starts[BASE])) if timed else None,
        )

    def pair_seconds(self, *, adopted: bool = True) -> float:
        """Approximate seconds of one pair of processes, with or without the adopted remedies."""
        seconds = self._seconds if adopted else self._probe.seconds
        replays = _SHORT if self._is_long(seconds) else _FULL
        return 2.0 * (self._start_seconds + replays * seconds)

    def _is_long(self, seconds: float) -> bool:
        full = _PROCESSES * (self._start_seconds + _FULL * seconds)
        return full > _FULL_PART * self._budget

    def _starter(self, settings: Mapping[str, Any], seconds: list[float]) -> StartEngine:
        """Return a function that starts an engine with settings, and notes how long that took."""
        own = starter_of(replace(self._spec, config={**self._spec.config, **settings}))

        def start(spec: LaunchSpec | None = None) -> EngineClient:
            began = time.monotonic()
            client = own(spec)
            seconds.append(time.monotonic() - began)
            return client

        return start

    def _plan(self, min_processes: int, max_processes: int, budget: float) -> Plan:
        long = self._is_long(self._seconds)
        perf = quick_perf(
            min_processes,
            max_processes,
            iterations=1 if long else 3,
            warmup_max=1 if long else 2,
            turns="processes",
            fitness=self._severities,
        )
        return Plan(
            workloads={NAME: self._probe.workload},
            recorded_seconds={NAME: self._seconds},
            start_seconds=self._start_seconds,
            perf=perf,
            seed=random.SystemRandom().getrandbits(32),
            budget=budget,
            unit=self._unit,
        )

    def _run(
        self,
        plan: Plan,
        sides: Sequence[Side],
        undecided: Undecided | None = None,
    ) -> TestSamples:
        return self._stage.measure(plan, sides, undecided).tests[NAME]


def _open(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
    return {
        name: OpenTest(JUDGED_METRICS)
        for name, samples in tests.items()
        if not is_decided(changes_of(samples))
    }


def _rows(samples: Sequence[ProcessSample], metric: str) -> tuple[tuple[float, ...], ...]:
    return tuple(row for sample in samples if (row := sample.row(metric)))
