"""One trial: measures recorded tests and judges them against one base."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_llmperf import __version__
from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.gate.words import count
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.kept_pairs import KeptPairs
from pytest_llmperf.measure.order import one_per_process
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replication import replication_unit
from pytest_llmperf.measure.rounds import Keep
from pytest_llmperf.measure.samples import Measurement, ProcessSample
from pytest_llmperf.session.base_side import BaseSide, sides_of
from pytest_llmperf.session.causes import configured_findings
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.fitness_entries import FitnessEntry, fitness_entries_of
from pytest_llmperf.session.measured_code import MeasuredCode
from pytest_llmperf.session.measuring import MeasureStage, expected_turns, make_plan, pair_notes
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.result import CheckResult
from pytest_llmperf.session.session_gate import SessionGate

if TYPE_CHECKING:
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.session.context import SessionContext


@dataclass(frozen=True)
class Trial:
    """A measurement and the gate that judges it.

    Attributes:
        tests: the measured tests.
        facts: machine, model and baselines.
        plan: the plan of the measure stage.
        gate: judges the measurement.
        measurement: the samples.
        base: the base side; None if stored sessions judge instead.
        interrupted: whether the user ended it before every test was decided.
    """

    tests: Sequence[RecordedTest]
    facts: SessionFacts
    plan: Plan
    gate: SessionGate
    measurement: Measurement
    base: BaseSide | None
    interrupted: bool = False

    @cached_property
    def checks(self) -> dict[str, list[CheckResult]]:
        """The results of every test's checks, by node id."""
        judged = self.gate.judge(self.measurement.tests, interrupted=self.interrupted)
        results = {test.nodeid: list[CheckResult]() for test in self.tests}
        for nodeid, group in groupby(judged, lambda result: result.evidence.nodeid):
            results[nodeid] += group
        return results

    @cached_property
    def baselines(self) -> dict[str, tuple[StoredRecord | None, int]]:
        """The newest stored session that judges each test, and the number of invalid ones."""
        return {test.nodeid: self._baseline(test) for test in self.tests}

    @cached_property
    def configured(self) -> dict[str, list[FitnessFinding]]:
        """Findings on how each test's configuration or build differs from its baseline or base."""
        tests = self.measurement.tests
        return {
            test.nodeid: configured_findings(
                self.facts.for_test(test),
                test.nodeid,
                self.baselines[test.nodeid][0],
                self.base_of(test),
                tests[test.nodeid].loaded,
            )
            for test in self.tests
        }

    @cached_property
    def fitness(self) -> dict[str, tuple[FitnessEntry, ...]]:
        """The fitness findings of each test."""
        tests = self.measurement.tests
        return {
            nodeid: fitness_entries_of(tests[nodeid], configured)
            for nodeid, configured in self.configured.items()
        }

    def base_of(self, test: RecordedTest) -> BaseSide | None:
        """Return the base side with a test's engine settings; None without one."""
        return self.base.for_test(test) if self.base is not None else None

    def _baseline(self, test: RecordedTest) -> tuple[StoredRecord | None, int]:
        if self.base is not None:
            return None, 0
        stored = [self.gate.stored(test, result.check) for result in self.checks[test.nodeid]]
        judging = {path for samples in stored for path in samples.paths}
        records = reversed(self.facts.baselines.records)
        newest = next((record for record in records if record.path in judging), None)
        return newest, max((samples.skipped_invalid for samples in stored), default=0)


class Trials:
    """Runs the trials of one session.

    Args:
        context: the session's context.
        facts: machine, model and baselines.
        start_seconds: how long an engine process takes to start.
        code: the code this session measures.

    Attributes:
        interrupted: the trial that was interrupted, with its measurement so far; or None.
    """

    def __init__(
        self, context: SessionContext, facts: SessionFacts, start_seconds: float, code: MeasuredCode
    ) -> None:
        self._context = context
        self._facts = facts
        self._start_seconds = start_seconds
        self._code = code
        self.interrupted: Trial | None = None

    @property
    def _perf(self) -> PerfConfig:
        return self._context.setup.perf

    def run(
        self,
        tests: Sequence[RecordedTest],
        base: BaseSide | None,
        *,
        alpha: float,
        budget: float | None = None,
    ) -> Trial:
        """Measure the tests until the gate has decided or a budget ends, and return the trial.

        Args:
            tests: the tests to measure.
            base: the base side, or None for the stored baselines.
            alpha: chance of any false ``regressed`` among these tests.
            budget: seconds; the configured one by default.

        Raises:
            DeviceBusyError: another session does not free the device.
        """
        base = base.for_tests(tests) if base is not None else None
        paired = base is not None and base.spec is not None
        specs = [self._context.setup.spec]
        if base is not None and base.spec is not None:
            specs.append(base.spec)
        sides = sides_of(self._context.setup, base, tests)
        facts, perf = self._facts, self._perf
        infos = [facts.for_test(test).info for test in tests]
        plan = make_plan(
            tests,
            perf,
            self._start_seconds,
            paired=paired,
            turns=expected_turns(perf.turns, specs, infos) if paired else None,
            specs=sides[0].specs,
            unit=replication_unit(self._context.setup.llm.kind),
        )
        if budget is not None:
            plan = replace(plan, budget=budget)
        console = self._context.console
        console.line(f"measuring {plan.describe()}")
        for note in pair_notes(plan):
            console.line(f"note: {note}")
        earlier, keep = self._kept(tests, base)
        known = sum(map(len, earlier.values())) // 2
        if known:
            also = "counts" if known == 1 else "count"
            console.line(
                f"{count(known, 'pair')} of earlier sessions measured the same comparison and "
                f"{also} (perf.accumulate)"
            )
        for side in sides:
            specs += one_per_process(side.specs.values())
        with self._facts.watching(base, self._context.setup, tests) as facts:
            gate = SessionGate(tests, plan, facts, alpha, base)
            stage = MeasureStage(facts.watch, console, self._context.wait, specs)
            try:
                measurement = stage.measure(plan, sides, gate.undecided, earlier, keep)
            except KeyboardInterrupt:
                if stage.interrupted is not None and any(
                    samples.processes for samples in stage.interrupted.tests.values()
                ):
                    measured = stage.interrupted
                    self.interrupted = Trial(
                        tests, facts, plan, gate, measured, base, interrupted=True
                    )
                raise
        return Trial(tests, facts, plan, gate, measurement, base)

    def _kept(
        self, tests: Sequence[RecordedTest], base: BaseSide | None
    ) -> tuple[dict[str, list[ProcessSample]], Keep | None]:
        """Return the valid pairs of earlier sessions, and a function that stores new ones."""
        common = self._identity(base) if base is not None and self._perf.accumulate else None
        if base is None or common is None:
            return {}, None
        pairs = KeptPairs(cache_dir(os.environ) / "evidence")
        pairs.sweep()
        known = {
            test.nodeid: {
                **common,
                "test": test.nodeid,
                "workload": test.workload.hash,
                **({"settings": test.identity} if test.cell is not None else {}),
            }
            for test in tests
            if base.relation(test.nodeid) == "same"
        }
        earlier = {nodeid: pairs.load(identity) for nodeid, identity in known.items()}
        for problem in pairs.problems:
            self._context.console.line(f"note: {problem}")

        def keep(nodeid: str, halves: Sequence[ProcessSample]) -> None:
            if nodeid in known:
                pairs.add(known[nodeid], halves)

        return {nodeid: samples for nodeid, samples in earlier.items() if samples}, keep

    def _identity(self, base: BaseSide) -> Mapping[str, Any] | None:
        """Return the identity of this comparison; None if it is unknown."""
        from pytest_llmperf.packages.fingerprint import deciding_variables

        candidate = self._code.identity if base.identity else None
        if candidate is None:
            return None
        perf = self._perf
        return {
            "plugin": __version__,
            "machine": self._facts.machine.key,
            "iterations": perf.iterations,
            "warmup_max": perf.warmup_max,
            "turns": perf.turns,
            # Fitness settings decide which pairs were kept.
            "fitness": dict(sorted(perf.fitness.items())),
            # Both sides' processes inherit them.
            "variables": deciding_variables(os.environ),
            "base": dict(base.identity),
            "candidate": candidate,
        }
