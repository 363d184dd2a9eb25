"""Calibration sessions: the recorded tests, judged again and again against themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.baselines.calibrations import (
    model_key,
    read_calibrations,
    write_calibration,
)
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.jsontext import dumps
from pytest_llmperf.baselines.record import now
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.planted import Plant
from pytest_llmperf.gate.calibration import Calibration, CheckRun, SessionRun, calibrate
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, percent, span
from pytest_llmperf.measure.arms import Arm
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import BASE, CANDIDATE, Measurement
from pytest_llmperf.plugin.evidence import Judged, SessionGate
from pytest_llmperf.plugin.facts import SessionFacts
from pytest_llmperf.plugin.planning import make_plan
from pytest_llmperf.plugin.recording import Recording
from pytest_llmperf.stats.summary import summarise

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.engine.client import LaunchSpec

#: Measures a plan with these arms until the gate has decided every test.
Measure = Callable[[Plan, Sequence[Arm], SessionGate], Measurement]

#: What the base arm of a calibration is called; it is the session's own configuration.
ITSELF = "itself"


@dataclass(frozen=True)
class CalibrationRequest:
    """What ``llmperf calibrate`` asks for.

    Attributes:
        sessions: how many to run.
        slowdown: planted in decode, a fraction; 0 plants nothing.
        share: of the requests that are slowed.
        store: whether to keep the outcome beside the baselines.
        json: where to write it besides, or None.
    """

    sessions: int
    slowdown: float = 0.0
    share: float = 1.0
    store: bool = True
    json: str | None = None

    @classmethod
    def read(cls, path: Path) -> CalibrationRequest:
        """Read what the command line wrote for this session.

        Raises:
            pytest.UsageError: the file is not such a request.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise pytest.UsageError(
                f"llmperf: --llmperf-calibrate {path}: {error}; use: llmperf calibrate"
            ) from None

    @property
    def plant(self) -> str:
        """What is planted, in words; empty for nothing."""
        if not self.slowdown:
            return ""
        part = "" if self.share == 1 else f" in {percent(self.share)} of the requests"
        return f"a decode slower by {percent(self.slowdown)}{part}"


class Calibrator:
    """Runs the sessions of a calibration.

    Args:
        request: what was asked for.
        held: the recorded tests.
        perf: how to measure and judge.
        facts: machine, model and baselines.
        spec: how an engine process is started.
        start_seconds: how long that takes.
        measure: measures a plan with these arms until the gate has decided.
        say: tells the user one line.
    """

    def __init__(
        self,
        request: CalibrationRequest,
        held: Sequence[Recording],
        perf: PerfConfig,
        facts: SessionFacts,
        spec: LaunchSpec,
        start_seconds: float,
        measure: Measure,
        say: Callable[[str], None],
    ) -> None:
        self._request = request
        self._held = held
        self._perf = perf
        self._facts = facts
        self._spec = spec
        self._start_seconds = start_seconds
        self._measure = measure
        self._say = say
        self._started = 0
        self.runs: list[SessionRun] = []

    def run(self) -> None:
        """Run every session; those that are done stay in ``runs`` if this is interrupted."""
        arms = [
            Arm(CANDIDATE, "candidate", self._start_candidate),
            Arm(BASE, f"base ({ITSELF})", partial(EngineClient.start, self._spec)),
        ]
        for number in range(1, self._request.sessions + 1):
            plan = make_plan(self._held, self._perf, self._start_seconds, paired=True)
            if self._perf.seed is not None:
                # The same order in every session would be one session's luck many times.
                plan = replace(plan, seed=(plan.seed + number) % 2**32)
            gate = SessionGate(self._held, plan, self._facts, self._perf.false_alarms, ITSELF)
            measurement = self._measure(plan, arms, gate)
            judged = gate.judge(measurement.tests)
            self.runs.append(_session_run(judged, measurement))
            self._say(_told(number, self._request.sessions, self.runs[-1]))

    def outcome(self) -> Calibration:
        """Reduce the sessions that were run."""
        seconds = [s / max(n, 1) for s, n in self._seconds_per_test()]
        per_round = sum(seconds) or 1.0
        pairs = min(self._perf.max_pairs, max(int(self._perf.budget / per_round), 1))
        return calibrate(
            self.runs,
            tolerances={
                (recording.item.nodeid, check.metric.name): check.tolerance
                for recording in self._held
                for check in recording.checks
            },
            pairs_in_budget=pairs,
            alpha=self._perf.false_alarms,
            plant=self._request.plant,
            earlier=self._earlier(),
        )

    def keep(self, outcome: Calibration | None) -> list[str]:
        """Store the outcome as asked for; return what to tell about it.

        Raises:
            BaselineError: a file could not be written.
        """
        if outcome is None or not outcome.alarms.of:
            return ["no session was fit to be judged, so nothing was stored"]
        told, data = [], self.to_json(outcome)
        if self._request.store:
            folder = self._facts.store.root / self._facts.machine.key
            told.append(f"stored in {write_calibration(folder, now(), data)}")
        if self._request.json is not None:
            path = Path(self._request.json)
            try:
                path.write_text(dumps(data), encoding="utf-8")
            except OSError as error:
                raise BaselineError(
                    f"can't write {path}: {error.strerror or error}; give --json a file in a "
                    "folder that can be written to"
                ) from None
            told.append(f"written to {path}")
        return told

    def to_json(self, outcome: Calibration) -> dict[str, Any]:
        """What is stored of the outcome: plain JSON, raw samples by pair included."""
        workloads = {one.item.nodeid: one.workload.hash for one in self._held}
        facts = self._facts
        return {
            "model": model_key(facts.model),
            "model_name": facts.model.name,
            "machine": facts.machine.key,
            "commit": facts.provenance.commit,
            "plugin": facts.provenance.plugin,
            "engine_version": facts.provenance.engine_version,
            "plant": outcome.plant,
            "false_alarms": outcome.alpha,
            "sessions_judged": outcome.alarms.of,
            "sessions_called": outcome.alarms.count,
            "sessions_unfit": outcome.unfit,
            "checks": [
                {
                    "nodeid": check.nodeid,
                    "metric": check.metric,
                    "workload": workloads[check.nodeid],
                    "level": check.level,
                    "within": check.noise.within,
                    "between": check.noise.between,
                    "pair": check.noise.pair,
                    "runs": check.noise.runs,
                    "sessions": check.noise.sessions,
                    "called": check.called.count,
                    "passed": check.passed.count,
                    "of": check.called.of,
                    "pairs": check.pairs,
                    "mde": check.mde if check.mde < float("inf") else None,
                }
                for check in outcome.checks
            ],
            "runs": [
                {
                    "seconds": run.seconds,
                    "pairs": run.pairs,
                    "checks": [
                        {
                            "nodeid": check.nodeid,
                            "metric": check.metric,
                            "verdict": check.kind.value,
                            "effect": check.effect,
                            "candidate": check.candidate,
                            "base": check.base,
                        }
                        for check in run.checks
                    ],
                }
                for run in outcome.sessions
            ],
        }

    def _start_candidate(self) -> EngineClient:
        self._started += 1
        plant = None
        if self._request.slowdown:
            # Its own seed for every process, or each would slow the same requests.
            plant = Plant(self._request.slowdown, self._request.share, self._started)
        return EngineClient.start(replace(self._spec, plant=plant))

    def _seconds_per_test(self) -> list[tuple[float, int]]:
        return [(run.seconds, max(run.pairs.values(), default=0)) for run in self.runs if run.fit][
            -1:
        ]

    def _earlier(self) -> dict[tuple[str, str], list[float]]:
        """Levels of recorded sessions and of earlier calibrations of the same work."""
        gate = SessionGate(self._held, self._plan(), self._facts, self._perf.false_alarms)
        known, _ = read_calibrations(self._facts.store.root / self._facts.machine.key)
        levels: dict[tuple[str, str], list[float]] = {}
        for recording in self._held:
            for check in recording.checks:
                key = (recording.item.nodeid, check.metric.name)
                found = [
                    summarise(session).value for session in gate.stored(recording, check).sessions
                ]
                found += [
                    float(stored["level"])
                    for calibration in known
                    if calibration.model == model_key(self._facts.model)
                    for stored in calibration.checks
                    if (stored["nodeid"], stored["metric"]) == key
                    and stored["workload"] == recording.workload.hash
                ]
                levels[key] = found
        return levels

    def _plan(self) -> Plan:
        return make_plan(self._held, self._perf, self._start_seconds, paired=True)


def _session_run(judged: Sequence[Judged], measurement: Measurement) -> SessionRun:
    checks = []
    for one in judged:
        verdict, pairs = one.verdict, one.evidence.pairs
        if verdict is None or pairs is None:
            continue
        checks.append(
            CheckRun(
                nodeid=one.evidence.nodeid,
                metric=one.evidence.check.metric.name,
                kind=verdict.kind,
                effect=verdict.change,
                candidate=pairs.candidate,
                base=pairs.base,
            )
        )
    return SessionRun(
        seconds=measurement.seconds,
        checks=tuple(checks),
        pairs={nodeid: samples.pairs for nodeid, samples in measurement.tests.items()},
        void=sum(samples.void_pairs for samples in measurement.tests.values()),
    )


def _told(number: int, of: int, run: SessionRun) -> str:
    kinds: dict[VerdictKind, list[str]] = {}
    for check in run.checks:
        kinds.setdefault(check.kind, []).append(check.metric)
    outcome = ", ".join(f"{len(names)} {kind.value}" for kind, names in kinds.items())
    called = kinds.get(VerdictKind.REGRESSED, [])
    if called:
        outcome += f" ({', '.join(dict.fromkeys(called))})"
    pairs = max(run.pairs.values(), default=0)
    void = f", {count(run.void, 'invalid pair')}" if run.void else ""
    return f"session {number}/{of}: {outcome}; {count(pairs, 'pair')}, {span(run.seconds)}{void}"
