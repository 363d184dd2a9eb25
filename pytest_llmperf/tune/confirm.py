"""Final comparison of the winner with today's configuration: fresh pairs, judged by the gate.

The sides are swapped: the candidate is today's configuration, and the base is the winner. Then
"improved" is the gate's ``regressed`` (today's configuration is slower than the winner), with the
same guarantee: the session's false-alarm rate over all checks, at any stopping time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.check import Check
from pytest_llmperf.gate.rules import log_alarm
from pytest_llmperf.gate.sequential import is_fine, is_worse, sequential_evidence
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import change_words, count, effect_words, limit_text, listed, percent
from pytest_llmperf.measure.samples import BASE, CANDIDATE, TestSamples
from pytest_llmperf.metrics import METRICS, get_metric
from pytest_llmperf.session.base_side import setup_side
from pytest_llmperf.session.context import SessionRequest
from pytest_llmperf.session.run import Session
from pytest_llmperf.text import in_short
from pytest_llmperf.tune.objective import Goal, Objective, limits_of
from pytest_llmperf.tune.race import RECORDED, change_between, levels_of
from pytest_llmperf.tune.result import Confirmation, Gain, Level, MetricChange, Target, TargetState

if TYPE_CHECKING:
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.recorded import RecordedTest
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.session.trial import Trial

#: How far from a limit a first look must be to tell whether the limit is kept (a fraction).
_CLEAR = 0.2
#: Whether a limit is kept, and the measured level.
_Judged = tuple[TargetState, float | None]
IMPROVED, SLOWER, NO_PROOF = "improved", "slower", "no proven improvement"


@dataclass(frozen=True)
class Proven:
    """Outcome and samples of the final comparison.

    Attributes:
        confirmation: the outcome.
        tests: samples by node id; the candidate is today's configuration, the base the winner.
        targets: whether each limit is kept, with today's configuration and with the winner.
    """

    confirmation: Confirmation
    tests: dict[str, TestSamples]
    targets: tuple[Target, ...]

    def levels(self, *, winner: bool) -> tuple[Level, ...]:
        """Return the levels of the winner, or of today's configuration."""
        return levels_of(self.tests, BASE if winner else CANDIDATE)


def prove(
    context: SessionContext,
    tests: Sequence[RecordedTest],
    engine: LlmEngine,
    winner: EngineSetup,
    objective: Objective,
    budget: float,
) -> Proven:
    """Compare the winner of a search with today's configuration.

    Args:
        context: session context of today's configuration.
        tests: recorded tests to replay.
        engine: the engine that the tests were recorded with.
        winner: the winner's configuration.
        objective: the goals whose metrics are to be proven.
        budget: time limit, seconds.

    Raises:
        SESSION_ERRORS: nothing could be measured.
    """
    setup, min_gain = context.setup, context.setup.loaded.config.tune.min_gain
    perf = setup.perf.model_copy(
        # Not accumulated: earlier pairs may be the reason why this point was chosen.
        update={"budget": budget, "accumulate": False, "test_budget": None}
    )
    config = setup.loaded.config.model_copy(update={"perf": perf})
    own = replace(setup, loaded=replace(setup.loaded, config=config))
    request = SessionRequest(base=setup_side("the tuned configuration", own, winner))
    session = Session(replace(context, setup=own, request=request))
    try:
        session.prepare()
        session.run([_checked(test, objective, min_gain) for test in tests], engine)
    finally:
        session.close()
    assert session.trial is not None
    samples = session.trial.measurement.tests
    targets = _judged_targets(objective, samples, perf.false_alarms)
    confirmation = _confirmation(session.trial, objective, targets, perf.false_alarms, min_gain)
    return Proven(confirmation, samples, targets)


def _checked(test: RecordedTest, objective: Objective, min_gain: float) -> RecordedTest:
    gated = {goal.metric.name for goal in objective.goals if goal.test == test.nodeid}
    names = dict.fromkeys([*RECORDED, *gated])
    checks = [
        Check(get_metric(name), None, min_gain, gated=name in gated, asked=False) for name in names
    ]
    return replace(test, checks=checks, budget=None)


def _confirmation(
    trial: Trial,
    objective: Objective,
    targets: Sequence[Target],
    alpha: float,
    min_gain: float,
) -> Confirmation:
    measured = trial.measurement
    gated = sum(row.check.gated for rows in trial.checks.values() for row in rows)
    threshold = log_alarm(alpha / max(gated, 1))
    gains = []
    for test in trial.tests:
        for row in trial.checks[test.nodeid]:
            samples = measured.tests[test.nodeid]
            gain = _gain(samples, row.check, row.verdict, test.nodeid, threshold)
            if gain is not None:
                gains.append(gain)
    pairs = min((samples.pairs for samples in measured.tests.values()), default=0)
    improved, text = conclude(gains, objective, targets, pairs, min_gain)
    return Confirmation(improved, tuple(gains), pairs, measured.seconds, alpha, text)


def conclude(
    gains: Sequence[Gain],
    objective: Objective,
    targets: Sequence[Target],
    pairs: int,
    min_gain: float,
) -> tuple[bool, str]:
    """Return whether the winner should be used, and the outcome in one sentence.

    A metric proven slower rules the winner out, unless its own targets are still kept and the
    winner meets a target that today's configuration misses: the search prefers such settings, too.

    Args:
        gains: change of every metric.
        objective: the goals of the search.
        targets: the state of each limit of the objective, in order.
        pairs: number of complete pairs.
        min_gain: the smallest improvement that counts.
    """
    limits = [*zip(limits_of(objective), targets, strict=True)]
    meets_more = any((target.before, target.after) == ("missed", "met") for _, target in limits)
    slower = [gain for gain in gains if gain.objective and gain.verdict == SLOWER]
    costs = [_cost(gain, limits) if meets_more else None for gain in slower]
    borne = [cost for cost in costs if cost is not None]
    improved = any(gain.proven for gain in gains if gain.objective) and len(borne) == len(costs)
    text = _sentence(gains, pairs, min_gain, improved=improved)
    return improved, f"{text}, at a cost: {listed(borne)}" if improved and borne else text


def _cost(gain: Gain, limits: Sequence[tuple[Goal, Target]]) -> str | None:
    """Describe a slower metric and the targets it keeps; None unless all are shown to be kept."""
    key = (gain.change.test, gain.change.metric)
    own = [(goal, target) for goal, target in limits if (goal.test, goal.metric.name) == key]
    bounded = any(goal.limits_metric for goal, _ in own)
    if not bounded or any(target.after != "met" for _, target in own):
        return None
    kept = []
    for goal, target in own:
        metric = goal.target_metric
        whose = "" if metric.name == goal.metric.name else f"{metric.label} "
        side = "above" if metric.limit_kind == "min" else "below"
        kept.append(f"{whose}still {side} its target of {limit_text(target.limit, metric)}")
    return f"{_words(gain)}, {listed(kept)}"


def _gain(
    samples: TestSamples, check: Check, verdict: Verdict | None, nodeid: str, threshold: float
) -> Gain | None:
    metric = check.metric
    # Swapped, because the candidate is today's configuration and the base is the winner.
    change = change_between(samples, metric, nodeid, check.tolerance, swapped=True)
    if change is None:
        if verdict is None:
            return None
        empty = MetricChange(metric.name, None, None, None, test=nodeid)
        return Gain(empty, False, _why(verdict), objective=True)
    if verdict is None:
        return Gain(change, False, "shown only")
    evidence = sequential_evidence(
        samples.differences(metric) or (), check.tolerance, metric
    ).log_worse
    proven = verdict.kind is VerdictKind.REGRESSED
    return Gain(change, proven, _why(verdict), evidence, threshold, objective=True)


def _why(verdict: Verdict) -> str:
    """Return the verdict on the winner, derived from the verdict on today's configuration."""
    if verdict.kind is VerdictKind.REGRESSED:
        return IMPROVED
    if verdict.kind is VerdictKind.IMPROVED:
        return SLOWER
    if verdict.kind in (VerdictKind.ERROR, VerdictKind.INVALID):
        return f"{verdict.kind.value}: {in_short(verdict.claim)}"
    return NO_PROOF


def _sentence(gains: Sequence[Gain], pairs: int, min_gain: float, *, improved: bool) -> str:
    asked = [gain for gain in gains if gain.objective]
    words = [_words(gain) for gain in asked if gain.change.change is not None]
    where = f"in {count(pairs, 'fresh pair')}"
    if improved:
        proven = [_words(gain) for gain in asked if gain.proven]
        return f"improved: {listed(proven)} {where}"
    broken = [gain.verdict for gain in asked if gain.verdict not in (IMPROVED, SLOWER, NO_PROOF)]
    if broken:
        return f"{NO_PROOF}: {broken[0]}"
    return f"{NO_PROOF} of {percent(min_gain)} or more: {listed(words)} {where}"


def _words(gain: Gain) -> str:
    change, metric = gain.change, METRICS[gain.change.metric]
    assert change.change is not None
    if change.low is None or change.high is None:
        return f"{metric.label} {change_words(metric, change.change)}"
    return f"{metric.label} {effect_words(metric, change.change, change.low, change.high)}"


def targets_of(
    objective: Objective,
    proven: Proven | None,
    today: Sequence[Level],
    *,
    has_winner: bool,
) -> tuple[Target, ...]:
    """Return every limit, and whether it is kept before and after.

    Args:
        objective: the goals of the search.
        proven: the final comparison; without it the first look decides the clear cases.
        today: levels of the first look at today's configuration.
        has_winner: whether there is a better configuration to use.
    """
    if proven is None:
        unknown: _Judged = ("unknown", None)
        return tuple(_target(goal, _by_look(goal, today), unknown) for goal in limits_of(objective))
    if has_winner:
        return proven.targets
    return tuple(replace(target, after="unknown", value_after=None) for target in proven.targets)


def _judged_targets(
    objective: Objective, tests: Mapping[str, TestSamples], alpha: float
) -> tuple[Target, ...]:
    """Return every limit, and whether each side keeps it according to its samples.

    ``alpha`` is the chance that any limit that is kept is called missed.
    """
    goals = limits_of(objective)
    share = alpha / max(2 * len(goals), 1)
    return tuple(
        _target(
            goal,
            _by_samples(goal, tests[goal.test], CANDIDATE, share),
            _by_samples(goal, tests[goal.test], BASE, share),
        )
        for goal in goals
    )


def _target(goal: Goal, before: _Judged, after: _Judged) -> Target:
    assert goal.limit is not None
    name = goal.target_metric.name
    return Target(name, goal.limit, before[0], after[0], before[1], after[1], test=goal.test)


def _by_look(goal: Goal, today: Sequence[Level]) -> _Judged:
    assert goal.limit is not None
    for level in today:
        if (level.test, level.metric) == (goal.test, goal.target_metric.name):
            over = goal.target_metric.slowdown(level.value, goal.limit)
            clear: TargetState = "missed" if over > 0 else "met"
            return (clear if abs(over) > _CLEAR else "unknown"), level.value
    return "unknown", None


def _by_samples(goal: Goal, samples: TestSamples, side: str, share: float) -> _Judged:
    """Judge a limit by the processes of one side, like the gate judges targets."""
    assert goal.limit is not None
    metric = goal.target_metric
    rows = samples.values(metric.name, side)
    if not rows:
        return "unknown", None
    edge = metric.signed_log(goal.limit)
    values = [median(row) for row in rows]
    differences = tuple(metric.signed_log(value) - edge for value in values)
    state = sequential_evidence(differences, 0.0, metric)
    if state.look is not None and is_worse(state, 0.0, share):
        return "missed", median(values)
    return ("met" if is_fine(state, 0.0) else "unknown"), median(values)
