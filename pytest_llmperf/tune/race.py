"""A race of a candidate against the best point so far, in pairs of fresh processes.

Both sides run interleaved, in turns of tokens where the machine has room for both, as for a
verdict; a race ends as soon as one of them is ahead, and after few pairs in any case. Its outcome
is an estimate: what the search finds is proven by the final comparison.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal

from pytest_llmperf.gate.running import running
from pytest_llmperf.gate.words import change_words, count
from pytest_llmperf.machine.gpu.metrics import GPU_METRICS
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import Open
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
#: Differences on the log scale that decide: one pair that is far ahead (further where processes
#: follow one another, whose differences are noisier), two or more that agree.
_FAR_IN_TURNS, _FAR_ALONE = math.log(1.15), math.log(1.30)
_AGREEING = {2: math.log(1.04), 3: math.log(1.02)}
#: A smaller gain is no reason to change anything.
_NEGLIGIBLE = math.log(1.01)
#: Tolerance by which the evidence about a difference is computed.
_ZONE = 0.05
#: Metrics that a race records, where they are defined.
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
#: Name of a level that is not measured in turns: the most memory that the engine's process held.
MEMORY = "peak_memory"

#: Differences of two pairs in turns that are all this small show that there is none worth having.
_EVEN = math.log(1.02)

Standing = Literal["better", "worse", "even"]


@dataclass(frozen=True)
class Runner:
    """One side of a race.

    Attributes:
        setup: its configuration.
        look: the first look at it.
    """

    setup: EngineSetup
    look: FirstLook


@dataclass(frozen=True)
class RaceOutcome:
    """How a race ended.

    Attributes:
        outcome: ``measured``, ``lost``, ``failed`` or ``out of time``.
        reason: of anything but ``measured``.
        effect: difference of the objective, on the log scale; negative is better. None: unknown.
        took_over: the candidate is the best point now.
        pairs: complete pairs.
        changes: of every recorded metric.
    """

    outcome: Outcome
    reason: str = ""
    effect: float | None = None
    took_over: bool = False
    pairs: int = 0
    changes: tuple[MetricChange, ...] = ()


def standing(differences: tuple[float, ...], metric: Metric, *, in_turns: bool) -> Standing | None:
    """Return whether a candidate is ahead, behind or even; None while these pairs don't show it."""
    if not differences:
        return None
    n, mean = len(differences), fmean(differences)
    side: Standing = "worse" if mean > 0 else "better"
    if n == 1:
        far = _FAR_IN_TURNS if in_turns else _FAR_ALONE
        return side if abs(mean) > far else None
    agree = all((one > 0) == (mean > 0) for one in differences)
    if agree and min(map(abs, differences)) > _AGREEING[min(n, max(_AGREEING))]:
        return side
    if in_turns and abs(mean) < _NEGLIGIBLE and max(map(abs, differences)) < _EVEN:
        return "even"
    state = running(differences, _ZONE, metric)
    return side if state.low > 0 or state.high < 0 else None


def at_the_end(differences: tuple[float, ...]) -> Standing | None:
    """Return the standing after the last pair, where no evidence decides."""
    mean, better = fmean(differences), sum(one < 0 for one in differences)
    if mean < -_NEGLIGIBLE and better > len(differences) / 2:
        return "better"
    return "worse" if mean > _NEGLIGIBLE else None


class Racer:
    """Races candidates for one set of tests.

    Args:
        context: of the session; the caller holds the device.
        facts: the machine, and how it is watched.
        tests: what is replayed.
        objective: what decides.
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
        # The counters of a card can't tell one of two processes from the other.
        self._alone = any(name in GPU_METRICS for name in objective.metrics)

    def by_looks(self, candidate: Runner, best: Runner) -> RaceOutcome | None:
        """Decide a race that needs no pairs: the first replays are far apart. None: it does."""
        ratio = candidate.look.seconds / best.look.seconds
        if 1 / FAR <= ratio <= FAR:
            return None
        levels, base = looked(candidate.look), looked(best.look)
        effect = self._objective.between(log_levels(levels), log_levels(base))
        if effect is None or (effect > 0) != (ratio > 1):
            return None
        text = (
            f"a first replay took {candidate.look.seconds:.3g} s, and "
            f"{best.look.seconds:.3g} s with the best point"
        )
        changes = tuple(_change_of_levels(one, base) for one in levels)
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

        def undecided(tests: Mapping[str, TestSamples]) -> dict[str, Open]:
            found = self._objective.differences(tests)
            # What the first pair lacks, further ones would lack, too.
            if not found or standing(found, metric, in_turns=turns == "tokens") is not None:
                return {}
            return {nodeid: Open(self._objective.metrics) for nodeid in tests}

        with self._facts.against(base, candidate.setup, self._tests) as facts:
            stage = MeasureStage(
                facts.watch, self._context.console, self._context.wait, None, in_logs=False
            )
            tests = stage.measure(plan, sides, undecided, known_turns=turns).tests
        return self._judged(tests, metric, in_turns=turns == "tokens")

    def _judged(
        self, tests: Mapping[str, TestSamples], metric: Metric, *, in_turns: bool
    ) -> RaceOutcome:
        error = next((one.error for one in tests.values() if one.error), None)
        if error is not None:
            return RaceOutcome("failed", error.splitlines()[0])
        found = self._objective.differences(tests)
        pairs = min(one.pairs for one in tests.values())
        if not found:
            voided = [one for each in tests.values() for one in each.voided]
            if any(one.budget_reached for one in tests.values()):
                return RaceOutcome("out of time", "the budget ended before a pair was complete")
            why = voided[-1].void if voided else self._undefined(tests)
            return RaceOutcome("failed", f"it could not be measured: {why}")
        known = standing(found, metric, in_turns=in_turns)
        ended = len(found) >= MAX_PAIRS or any(one.unfit for one in tests.values())
        if known is None and ended:
            known = at_the_end(found)
        effect = running(found, _ZONE, metric).effect
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
        """Return why no pair has the objective's metrics."""
        for sample in (one for each in tests.values() for one in each.processes):
            for name in self._objective.metrics:
                if name in sample.undefined:
                    return f"{get_metric(name).label}: {sample.undefined[name]}"
        return "no pair was complete"

    def _turns(self, candidate: FirstLook, best: FirstLook) -> Turns | None:
        both = {candidate.turns, best.turns}
        if self._alone or None in both:
            return None
        return "tokens" if both == {"tokens"} else "iterations"

    def _plan(self, turns: Turns | None, budget: float) -> Plan:
        # Turns of tokens are long enough by themselves; else the median needs three.
        few, own = turns == "tokens", self._context.setup.perf
        perf = quick_perf(
            1,
            MAX_PAIRS,
            # Energy needs as long a window as in a session.
            iterations=own.iterations if self._alone else 1 if few else 3,
            warmup_max=1 if few else 2,
            turns=own.turns,
            fitness=own.fitness,
        )
        return Plan(
            workloads={test.nodeid: test.workload for test in self._tests},
            recorded_seconds={test.nodeid: test.seconds for test in self._tests},
            # Which of the two is faster shows without repeating short replays for as long.
            start_seconds=0.0,
            perf=perf,
            seed=random.SystemRandom().getrandbits(32),
            budget=budget,
            paired=True,
            alone=frozenset(test.nodeid for test in self._tests if self._alone),
        )


def looked(look: FirstLook) -> tuple[Level, ...]:
    """Return the levels of a first look."""
    found = [
        Level(name, values[name], test)
        for test, values in look.values.items()
        for name in RECORDED
        if name in values
    ]
    return (*found, Level(MEMORY, float(look.memory))) if look.memory else tuple(found)


def _change_of_levels(level: Level, base: Sequence[Level]) -> MetricChange:
    other = next(
        (one.value for one in base if (one.test, one.metric) == (level.test, level.metric)), None
    )
    change = None
    if other is not None and level.metric in METRICS:
        change = METRICS[level.metric].slowdown(level.value, other)
    return MetricChange(level.metric, level.value, other, change, test=level.test)


def levels_of(tests: Mapping[str, TestSamples], side: str) -> tuple[Level, ...]:
    """Return the levels of one side: medians of its processes' medians."""
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
    """Return the change of every metric that both sides measured, with its interval."""
    return tuple(
        change
        for nodeid, samples in tests.items()
        for name in RECORDED
        if (change := change_between(samples, get_metric(name), nodeid, _ZONE)) is not None
    )


def change_between(
    samples: TestSamples, metric: Metric, nodeid: str, tolerance: float, *, swapped: bool = False
) -> MetricChange | None:
    """Return a metric's change with its interval; None where no pair has the metric.

    It is the change of the candidate against the base; ``swapped``: of the base instead.
    """
    differences = samples.differences(metric)
    if not differences:
        return None
    side, other = (BASE, CANDIDATE) if swapped else (CANDIDATE, BASE)
    if swapped:
        differences = tuple(-one for one in differences)
    state = running(differences, tolerance, metric)
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
