"""Runs a calibration: judges the recorded tests repeatedly against themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_llmperf.baselines.calibrations import model_key, read_calibrations, same_settings
from pytest_llmperf.calibration.files import keep, to_json
from pytest_llmperf.calibration.outcome import Calibration, CheckRun, SessionRun, calibrate
from pytest_llmperf.calibration.request import CalibrationRequest
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.engine.planted import Plant
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count
from pytest_llmperf.measure.order import one_per_process
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replication import replication_unit
from pytest_llmperf.measure.samples import BASE, CANDIDATE, Measurement
from pytest_llmperf.measure.sides import Side
from pytest_llmperf.session.base_side import BaseSide
from pytest_llmperf.session.cell import specs_of
from pytest_llmperf.session.context import SessionContext
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.measuring import MeasureStage, expected_turns, make_plan
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.result import CheckResult
from pytest_llmperf.session.session_gate import SessionGate
from pytest_llmperf.stats.summary import summarise
from pytest_llmperf.units import format_duration

#: Name of a calibration's base side, which is the session's own configuration.
ITSELF = "itself"


class Calibrator:
    """Runs the sessions of a calibration.

    Args:
        context: how to measure and judge, and how an engine process is started.
        request: the options of ``llmperf calibrate``.
        tests: the recorded tests.
        facts: machine, model and baselines.
        start_seconds: how long an engine process takes to start.

    Attributes:
        runs: the finished sessions.
        errors: by node id, why a test can't be measured; they end the calibration.
    """

    def __init__(
        self,
        context: SessionContext,
        request: CalibrationRequest,
        tests: Sequence[RecordedTest],
        facts: SessionFacts,
        start_seconds: float,
    ) -> None:
        self._context = context
        self._request = request
        self._tests = tests
        self._setup = context.setup
        self._perf = context.setup.perf
        self._facts = facts
        self._start_seconds = start_seconds
        self._specs = specs_of(tests, context.setup.spec, lambda cell: cell.setup.spec)
        self._stage = MeasureStage(
            facts.watch,
            context.console,
            context.wait,
            [context.setup.spec, *one_per_process(self._specs.values())],
            in_logs=False,
        )
        self._started = 0
        self.runs: list[SessionRun] = []
        self.errors: dict[str, str] = {}

    def run(self) -> None:
        """Run all sessions, or up to the first in which a test can't be measured.

        After an interrupt, finished sessions are in ``runs``.
        """
        # If one side runs the planting code, so must the other: the code alone can cost or gain 2%.
        nothing = Plant(0.0) if self._request.slowdown else None
        sides = [
            Side(CANDIDATE, "candidate", self._start_candidate, specs=self._specs),
            Side(BASE, f"base ({ITSELF})", self._setup.starter(nothing), specs=self._specs),
        ]
        itself = BaseSide(ITSELF, self._setup.spec, None)
        for number in range(1, self._request.sessions + 1):
            plan = self._plan()
            if self._perf.seed is not None:
                # A different order in every session, so that chance effects average out.
                plan = replace(plan, seed=(plan.seed + number) % 2**32)
            gate = SessionGate(self._tests, plan, self._facts, self._perf.false_alarms, itself)
            measurement = self._stage.measure(plan, sides, gate.undecided)
            judged = gate.judge(measurement.tests)
            self.runs.append(_session_run(judged, measurement))
            self._context.console.line(_in_one_line(number, self._request.sessions, self.runs[-1]))
            self.errors = _errors(judged)
            if self.errors:
                # Not caused by the machine: the other sessions would fail alike.
                return

    def outcome(self) -> Calibration:
        """Summarise the finished sessions."""
        seconds = [s / max(n, 1) for s, n in self._seconds_per_test()]
        per_round = sum(seconds) or 1.0
        pairs = min(self._perf.max_pairs, max(int(self._perf.budget / per_round), 1))
        return calibrate(
            self.runs,
            tolerances={
                (test.nodeid, check.metric.name): check.tolerance
                for test in self._tests
                for check in test.checks
            },
            pairs_in_budget=pairs,
            max_pairs=self._perf.max_pairs,
            alpha=self._perf.false_alarms,
            plant=self._request.plant,
            earlier=self._earlier(),
            unit=replication_unit(self._setup.llm.kind).name,
        )

    def keep(self, outcome: Calibration | None) -> tuple[list[str], list[str]]:
        """Store the outcome as requested; return notes and problems."""
        if self.errors:
            number = f"session {len(self.runs)}"
            tests = ", ".join(self.errors)
            return [], [f"stopped in {number}, nothing was stored: {tests} can't be measured"]
        if outcome is None or not outcome.alarms.of:
            return [], ["no session could be judged, so nothing was stored"]
        data = to_json(outcome, self._tests, self._facts, self._perf)
        return keep(self._request, self._facts, data, self._tests, self._perf)

    def _start_candidate(self, spec: LaunchSpec | None = None) -> EngineClient:
        self._started += 1
        plant = None
        if self._request.slowdown:
            # A different seed for every process, or all would slow the same requests.
            plant = Plant(self._request.slowdown, self._request.share, self._started)
        return self._setup.starter(plant)(spec)

    def _seconds_per_test(self) -> list[tuple[float, int]]:
        return [(run.seconds, max(run.pairs.values(), default=0)) for run in self.runs if run.fit][
            -1:
        ]

    def _earlier(self) -> dict[tuple[str, str], list[float]]:
        """Return levels of earlier sessions and calibrations with the same work and settings.

        Other settings would mean another level, not noise.
        """
        facts = self._facts
        gate = SessionGate(self._tests, self._plan(), facts, self._perf.false_alarms)
        records = {stored.path: stored.record for stored in facts.baselines.records}
        known, _ = read_calibrations(facts.store.root / facts.machine.key)
        alike = [c for c in known if c.is_of(model_key(facts.model), facts.config)]
        levels: dict[tuple[str, str], list[float]] = {}
        for test in self._tests:
            for check in test.checks:
                if check.metric.kind == "share":
                    continue
                key = (test.nodeid, check.metric.name)
                stored = gate.stored(test, check)
                known_levels = [
                    summarise(session, check.metric.resolution).value
                    for session, path in zip(stored.sessions, stored.paths, strict=True)
                    if same_settings(
                        records[path].config_of(test.nodeid), facts.for_test(test).config
                    )
                ]
                known_levels += [
                    old.level
                    for calibration in alike
                    for old in calibration.checks_of(test.nodeid, test.workload.hash, test.identity)
                    if old.metric == check.metric.name
                ]
                levels[key] = known_levels
        return levels

    def _plan(self) -> Plan:
        facts, perf, spec = self._facts, self._perf, self._setup.spec
        infos = [facts.for_test(test).info for test in self._tests]
        return make_plan(
            self._tests,
            perf,
            self._start_seconds,
            paired=True,
            turns=expected_turns(perf.turns, [spec, spec], infos),
            specs=self._specs,
            unit=replication_unit(self._setup.llm.kind),
        )


def _errors(judged: Sequence[CheckResult]) -> dict[str, str]:
    """Return why tests can't be measured, by node id: each reason once, with its metrics."""
    by_test: dict[str, dict[str, None]] = {}
    for result in judged:
        if result.verdict is not None and result.verdict.kind is VerdictKind.ERROR:
            by_test.setdefault(result.evidence.nodeid, {})[f"error: {result.verdict.claim}"] = None
    return {nodeid: "\n".join(reasons) for nodeid, reasons in by_test.items()}


def _session_run(judged: Sequence[CheckResult], measurement: Measurement) -> SessionRun:
    checks = []
    because = ""
    for result in judged:
        verdict, pairs = result.verdict, result.evidence.pairs
        if verdict is None or pairs is None:
            continue
        if verdict.kind in (VerdictKind.ERROR, VerdictKind.INVALID) and not because:
            because = f"{result.evidence.nodeid}: {verdict.claim}"
        checks.append(
            CheckRun(
                nodeid=result.evidence.nodeid,
                metric=result.evidence.check.metric.name,
                kind=verdict.kind,
                effect=verdict.change,
                candidate=pairs.candidate,
                base=pairs.base,
                row_size=result.evidence.row_size,
                differences=pairs.differences,
            )
        )
    return SessionRun(
        seconds=measurement.seconds,
        checks=tuple(checks),
        pairs={nodeid: samples.pairs for nodeid, samples in measurement.tests.items()},
        void=sum(samples.void_pairs for samples in measurement.tests.values()),
        unfit_because=because,
    )


def _in_one_line(number: int, of: int, run: SessionRun) -> str:
    kinds: dict[VerdictKind, list[str]] = {}
    for check in run.checks:
        kinds.setdefault(check.kind, []).append(check.metric)
    outcome = ", ".join(f"{len(names)} {kind.value}" for kind, names in kinds.items())
    called = kinds.get(VerdictKind.REGRESSED, [])
    if called:
        outcome += f" ({', '.join(dict.fromkeys(called))})"
    pairs = max(run.pairs.values(), default=0)
    void = f", {count(run.void, 'invalid pair')}" if run.void else ""
    took = format_duration(run.seconds)
    return f"session {number}/{of}: {outcome}; {count(pairs, 'pair')}, {took}{void}"
