"""Race between a candidate and the best point so far, in pairs of fresh processes.

As for a verdict, both sides run interleaved, taking turns token by token if the machine has room
for both. A race ends as soon as one side is ahead, and after a few pairs at most. Its outcome is
only an estimate: the final comparison proves the gain.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal

from pytest_llmperf.gate.sequential import sequential_evidence
from pytest_llmperf.gate.words import change_words, count
from pytest_llmperf.machine.gpu.metrics import GPU_METRICS
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import OpenTest
from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.metrics import METRICS, get_metric
from pytest_llmperf.session.base_side import setup_side
from pytest_llmperf.session.measuring import MeasureStage, quick_perf
from pytest_llmperf.tune.levels import log_levels
from pytest_llmperf.tune.look import FAR
from pytest_llmperf.tune.objective import as_change
from pytest_llmperf.tune.result import Level, MetricChange

if TYPE_CHECKING:
    from pytest_llmperf.measure.samples import TestSamples
    from pytest_llmperf.measure.turns import Turns
    from pytest_llmperf.metrics import Metric
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.facts import SessionFacts
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.tune.look import FirstLook
    from pytest_llmperf.tune.objective import Objective
    from pytest_llmperf.tune.result import Outcome

MAX_PAIRS = 4
#: Seconds of each side's turns in a pair: enough to see who is faster by several percent.
_TURN_SECONDS = 1.0
#: Differences on the log scale that decide a race: for a single pair, in turns or with one process
#: after the other (noisier); for 2 pairs, and for 3 or more, if all pairs agree.
_FAR_IN_TURNS, _FAR_ALONE = math.log(1.15), math.log(1.30)
_AGREEING = {2: math.log(1.04), 3: math.log(1.02)}
#: A smaller gain is not worth a change of settings.
_NEGLIGIBLE = math.log(1.01)
#: Tolerance used to compute the evidence for a difference.
_ZONE = 0.05
#: Metrics that a race records if they are defined.
RECORDED = (
    "tokens_per_sec",
    "prefill_tokens_per_sec",
    "first_token",
    "end_to_end",
    "request_latency",
    "output_tokens_per_sec",
    "requests_per_sec",
    "goodput",
    "gpu_memory",
    "energy_per_token",
)
#: Name of the level for the engine process's peak memory, which is not measured in turns.
MEMORY = "peak_memory"

#: If the differences of all pairs (two or more, in turns) are this small, the sides are even.
_EVEN = math.log(1.02)

PairsVerdict = Literal["better", "worse", "even"]


@dataclass(frozen=True)
class Runner:
    """One side of a race.

    Attributes:
        setup: configuration of this side.
        look: the first look at that configuration.
    """

    setup: EngineSetup
    look: FirstLook


@dataclass(frozen=True)
class RaceOutcome:
    """Result of a race.

    Attributes:
        outcome: ``measured``, ``lost``, ``failed`` or ``out of time``.
        reason: why the outcome is not ``measured``; empty if it is.
        effect: difference of the objective, on the log scale; negative is better. None: unknown.
        took_over: whether the candidate is the best point now.
        pairs: number of complete pairs.
        changes: change of every recorded metric.
    """

    outcome: Outcome
    reason: str = ""
    effect: float | None = None
    took_over: bool = False
    pairs: int = 0
    changes: tuple[MetricChange, ...] = ()


def verdict_of_pairs(
    differences: tuple[float, ...], metric: Metric, *, in_turns: bool
) -> PairsVerdict | None:
    """Return whether a candidate is better, worse or even; None if the pairs don't tell yet."""
    if not differences:
        return None
    n, mean = len(differences), fmean(differences)
    side: PairsVerdict = "worse" if mean > 0 else "better"
    if n == 1:
        far = _FAR_IN_TURNS if in_turns else _FAR_ALONE
        return side if abs(mean) > far else None
    agree = all((difference > 0) == (mean > 0) for difference in differences)
    if agree and min(map(abs, differences)) > _AGREEING[min(n, max(_AGREEING))]:
        return side
    if in_turns and abs(mean) < _NEGLIGIBLE and max(map(abs, differences)) < _EVEN:
        return "even"
    state = sequential_evidence(differences, _ZONE, metric)
    return side if state.low > 0 or state.high < 0 else None


def verdict_after_last_pair(differences: tuple[float, ...]) -> PairsVerdict | None:
    """Return the verdict after the last pair, for a race that the evidence did not decide.

    The best point changes only if every pair says so: each change by chance prolongs the search.
    """
    mean = fmean(differences)
    if mean < -_NEGLIGIBLE and max(differences) < 0:
        return "better"
    return "worse" if mean > _NEGLIGIBLE else None


class Racer:
    """Races candidates for one set of tests.

    Args:
        context: session context; the caller holds the device.
        facts: the machine, and how it is watched.
        tests: recorded tests to replay.
        objective: the goals that decide who wins.
    """

    def __init__(
        self,
        context: SessionContext,
        facts: SessionFacts,
        tests: Sequence[RecordedTest],
        objective: Objective,
    ) -> None:
        self._context = context
        self._facts = facts
        self._tests = tests
        self._objective = objective
        # The counters of a GPU can't tell two processes apart.
        self._alone = any(name in GPU_METRICS for name in objective.metrics)

    def decide_by_looks(self, candidate: Runner, best: Runner) -> RaceOutcome | None:
        """Decide a race by the first replays if they are far apart; None if it needs pairs."""
        ratio = candidate.look.seconds / best.look.seconds
        if 1 / FAR <= ratio <= FAR:
            return None
        levels, base = levels_of_look(candidate.look), levels_of_look(best.look)
        effect = self._objective.between(log_levels(levels), log_levels(base))
        if effect is None or (effect > 0) != (ratio > 1):
            return None
        text = (
            f"the first replay took {candidate.look.seconds:.3g} s, against "
            f"{best.look.seconds:.3g} s with the best point"
        )
        changes = tuple(_change_of_levels(level, base) for level in levels)
        if ratio > 1:
            return RaceOutcome("lost", text, effect, changes=changes)
        return RaceOutcome("measured", text, effect, True, 0, changes)

    def run(self, candidate: Runner, best: Runner, budget: float) -> RaceOutcome:
        """Race a candidate against the best point, within a budget of seconds."""
        turns = self._turns(candidate.look, best.look)
        plan = self._plan(turns, budget)
        base = setup_side("the best point", candidate.setup, best.setup)
        sides = [
            Side(CANDIDATE, "the candidate", starter_of(candidate.setup.spec)),
            Side(BASE, "the best point", starter_of(best.setup.spec)),
        ]
        metric = get_metric(self._objective.metrics[0])

        def undecided(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
            diffs = self._objective.differences(tests)
            # Metrics that the first pair lacks would be missing from further pairs, too.
            if not diffs or verdict_of_pairs(diffs, metric, in_turns=turns == "tokens") is not None:
                return {}
            return {nodeid: OpenTest(self._objective.metrics) for nodeid in tests}

        with self._facts.watching(base, candidate.setup, self._tests) as facts:
            stage = MeasureStage(
                facts.watch, self._context.console, self._context.wait, None, in_logs=False
            )
            tests = stage.measure(plan, sides, undecided, known_turns=turns).tests
        return self._judged(tests, metric, in_turns=turns == "tokens")

    def _judged(
        self, tests: Mapping[str, TestSamples], metric: Metric, *, in_turns: bool
    ) -> RaceOutcome:
        error = next((samples.error for samples in tests.values() if samples.error), None)
        if error is not None:
            return RaceOutcome("failed", error.splitlines()[0])
        differences = self._objective.differences(tests)
        pairs = min(samples.pairs for samples in tests.values())
        if not differences:
            voided = [process for samples in tests.values() for process in samples.voided]
            if any(samples.budget_reached for samples in tests.values()):
                return RaceOutcome("out of time", "the budget ended before a pair was complete")
            why = voided[-1].void if voided else self._undefined(tests)
            return RaceOutcome("failed", f"it could not be measured: {why}")
        known = verdict_of_pairs(differences, metric, in_turns=in_turns)
        ended = len(differences) >= MAX_PAIRS or any(samples.given_up for samples in tests.values())
        if known is None and ended:
            known = verdict_after_last_pair(differences)
        effect = sequential_evidence(differences, _ZONE, metric).effect
        outcome = RaceOutcome("measured", "", effect, known == "better", pairs, changes_of(tests))
        if known == "worse":
            size = change_words(metric, as_change(effect))
            text = f"{size} than the best point in {count(pairs, 'pair')}"
            return replace(outcome, outcome="lost", reason=text)
        if known is None and not ended:
            text = f"the budget ended after {count(pairs, 'pair')}"
            return replace(outcome, outcome="out of time", reason=text)
        return outcome

    def _undefined(self, tests: Mapping[str, TestSamples]) -> str:
        """Return why no pair has all the objective's metrics."""
        for sample in (process for samples in tests.values() for process in samples.processes):
            for name in self._objective.metrics:
                if name in sample.undefined:
                    return f"{get_metric(name).label}: {sample.undefined[name]}"
        return "no pair was complete"

    def _turns(self, candidate: FirstLook, best: FirstLook) -> Turns | None:
        turns = {candidate.turns, best.turns}
        if self._alone or None in turns:
            return None
        return "tokens" if turns == {"tokens"} else "iterations"

    def _plan(self, turns: Turns | None, budget: float) -> Plan:
        # One iteration is enough when turns are tokens; otherwise the median needs three.
        few, own = turns == "tokens", self._context.setup.perf
        perf = quick_perf(
            1,
            MAX_PAIRS,
            # Energy needs a measuring window as long as in a session.
            iterations=own.iterations if self._alone else 1 if few else 3,
            warmup_max=1 if few else 2,
            turns=own.turns,
            fitness=own.fitness,
        )
        return Plan(
            workloads={test.nodeid: test.workload for test in self._tests},
            recorded_seconds={test.nodeid: test.seconds for test in self._tests},
            # 0: short replays need not be repeated as long as in a session to see who is faster.
            start_seconds=0.0,
            perf=perf,
            seed=random.SystemRandom().getrandbits(32),
            budget=budget,
            paired=True,
            min_turn_seconds=_TURN_SECONDS,
            run_alone=frozenset(test.nodeid for test in self._tests if self._alone),
        )


def levels_of_look(look: FirstLook) -> tuple[Level, ...]:
    """Return the levels of a first look."""
    levels = [
        Level(name, values[name], test)
        for test, values in look.values.items()
        for name in RECORDED
        if name in values
    ]
    return (*levels, Level(MEMORY, float(look.memory))) if look.memory else tuple(levels)


def _change_of_levels(level: Level, base: Sequence[Level]) -> MetricChange:
    other = next(
        (row.value for row in base if (row.test, row.metric) == (level.test, level.metric)), None
    )
    change = None
    if other is not None and level.metric in METRICS:
        change = METRICS[level.metric].slowdown(level.value, other)
    return MetricChange(level.metric, level.value, other, change, test=level.test)


def levels_of(tests: Mapping[str, TestSamples], side: str) -> tuple[Level, ...]:
    """Return the levels of one side: the median over its processes of their medians."""
    return tuple(
        Level(name, value, nodeid)
        for nodeid, samples in tests.items()
        for name in RECORDED
        if (value := _level(samples, name, side)) is not None
    )


def _level(samples: TestSamples, name: str, side: str) -> float | None:
    rows = samples.values(name, side)
    return median(median(row) for row in rows) if rows else None


def changes_of(tests: Mapping[str, TestSamples]) -> tuple[MetricChange, ...]:
    """Return the change, with its interval, of every metric that both sides measured."""
    return tuple(
        change
        for nodeid, samples in tests.items()
        for name in RECORDED
        if (change := change_between(samples, get_metric(name), nodeid, _ZONE)) is not None
    )


def change_between(
    samples: TestSamples, metric: Metric, nodeid: str, tolerance: float, *, swapped: bool = False
) -> MetricChange | None:
    """Return a metric's change with its interval; None if no pair has the metric.

    The change is from base to candidate; with ``swapped``, from candidate to base.
    """
    differences = samples.differences(metric)
    if not differences:
        return None
    side, other = (BASE, CANDIDATE) if swapped else (CANDIDATE, BASE)
    if swapped:
        differences = tuple(-difference for difference in differences)
    state = sequential_evidence(differences, tolerance, metric)
    known = state.look is not None and math.isfinite(state.low)
    return MetricChange(
        metric=metric.name,
        value=_level(samples, metric.name, side),
        against=_level(samples, metric.name, other),
        change=as_change(state.effect),
        low=as_change(state.low) if known else None,
        high=as_change(state.high) if known else None,
        test=nodeid,
    )
