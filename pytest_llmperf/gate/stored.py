"""Compares this session with stored ones, for the screening and creeping strategies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import variance
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import is_comparable, session_level
from pytest_llmperf.gate.rules import FALSE_PASSES, LEVEL, RECENT, slowdown
from pytest_llmperf.gate.sequential import zone_of

if TYPE_CHECKING:
    from pytest_llmperf.baselines.samples import BaselineSamples
    from pytest_llmperf.gate.check import Evidence, Samples
    from pytest_llmperf.stats.prediction import Prediction


#: Largest number of stored sessions that a report recommends.
MAX_SESSIONS = 30


#: Minimum number of processes to call a slowdown: a stall may fill a whole process.
MIN_PROCESSES_TO_CALL = 3


@dataclass(frozen=True)
class StoredComparison:
    """A level compared with stored ones, on the log scale; positive is worse.

    Attributes:
        effect: the difference.
        low, high: its 95% interval, the difference between sessions included.
        bound: upper bound of the slowdown (95%, one-sided).
        p_worse: chance of such a difference if the true one were negligible. It is
            computed from the session's fastest process, because a stall of the machine
            can slow two of three processes, but a change of the code slows all of them.
        sessions: number of stored sessions compared with.
    """

    effect: float
    low: float
    high: float
    bound: float
    p_worse: float
    sessions: int


def screen(evidence: Evidence) -> StoredComparison | None:
    """Compare with the rolling window; None if there are no comparable sessions.

    Raises:
        ValueError: a sample that the metric can't have.
    """
    view, metric = evidence.baseline, evidence.check.metric
    if view is None or not is_comparable(view) or not evidence.samples:
        return None
    now = metric.signed_log(session_level(metric, judged_samples(evidence)))
    best = _judged_fastest(evidence)
    return _compared(_levels(evidence), now, best, _extra(evidence), evidence.check.tolerance)


def judged_samples(evidence: Evidence) -> Samples:
    """Return the samples to compare with stored ones: those of the planned processes.

    The comparison is valid for a single look. Repeating it while a target is still being
    sampled would raise its false-alarm rate.
    """
    if evidence.check.metric.kind != "value":
        return evidence.samples
    return evidence.samples[: max(evidence.planned_processes, 1)]


@lru_cache(maxsize=1024)
def _compared(
    stored: tuple[float, ...], now: float, best: float, extra: float, tolerance: float
) -> StoredComparison:
    prediction = _predict(stored, extra)
    return StoredComparison(
        effect=now - float(prediction.centre),
        low=float(prediction.lower(now, 0.5 + LEVEL / 2)),
        high=float(prediction.upper(now, 0.5 + LEVEL / 2)),
        bound=float(prediction.upper(now, 1.0 - FALSE_PASSES)),
        p_worse=float(prediction.p_worse(best, zone_of(tolerance).negligible)),
        sessions=len(stored),
    )


@dataclass(frozen=True)
class Sensitivity:
    """What so many stored sessions can detect, as fractions: 0.05 is 5% slower.

    Attributes:
        calls_from: the smallest true slowdown that is called in half of all sessions.
        passes_up_to: the largest measured slowdown that passes; below 0 if even an
            unchanged test does not pass.
    """

    calls_from: float
    passes_up_to: float


def sensitivity(evidence: Evidence, share: float) -> Sensitivity:
    """Compute the stored sessions' sensitivity with this share of the false-alarm rate.

    Raises:
        ValueError: a sample that the metric can't have.
    """
    from pytest_llmperf.stats.prediction import decides_from, passes_up_to

    prediction = _predict(_levels(evidence), _extra(evidence))
    tolerance, view = evidence.check.tolerance, evidence.baseline
    assert view is not None
    # The fastest process is judged, which is ahead of the median by about this much.
    leads = [
        level - _fastest(evidence, session)
        for level, session in zip(_levels(evidence), view.sessions, strict=True)
    ]
    lead = sum(leads) / len(leads)
    return Sensitivity(
        slowdown(math.log1p(float(decides_from(prediction, tolerance, share))) + lead),
        float(passes_up_to(prediction, tolerance, 1.0 - FALSE_PASSES)),
    )


def more_sessions(evidence: Evidence, share: float) -> int | None:
    """Estimate how many more stored sessions would decide; None if none would.

    It assumes that this session's difference and the spread between sessions stay the same.
    ``share``: this comparison's share of the false-alarm rate.

    Raises:
        ValueError: a sample that the metric can't have.
    """
    from pytest_llmperf.stats.paired import smallest_reaching
    from pytest_llmperf.stats.prediction import PRIOR_DF, PRIOR_SD
    from pytest_llmperf.stats.student import t_quantile

    comparison = screen(evidence)
    if comparison is None:
        return None
    levels, extra = _levels(evidence), _extra(evidence)
    spread = variance(levels) if len(levels) > 1 else PRIOR_SD**2
    effect, zone = comparison.effect, zone_of(evidence.check.tolerance)
    best = _judged_fastest(evidence) - sum(levels) / len(levels)

    def decided(sessions: int) -> bool:
        df = PRIOR_DF + sessions - 1
        known = (PRIOR_DF * PRIOR_SD**2 + (sessions - 1) * spread) / df
        se = math.sqrt(known * (1.0 + 1.0 / sessions) + extra)
        fine = effect + t_quantile(1.0 - FALSE_PASSES, df) * se < zone.tolerance
        far = best >= zone.negligible + t_quantile(1.0 - share, df) * se
        return fine or (far and effect >= zone.min_called)

    total = smallest_reaching(decided, len(levels) + 1, MAX_SESSIONS)
    return None if total is None else total - len(levels)


def _levels(evidence: Evidence) -> tuple[float, ...]:
    view, metric = evidence.baseline, evidence.check.metric
    assert view is not None
    return tuple(metric.signed_log(session_level(metric, session)) for session in view.sessions)


@lru_cache(maxsize=1024)
def _predict(stored: tuple[float, ...], extra: float) -> Prediction:
    import numpy as np

    from pytest_llmperf.stats.prediction import predict

    return predict(np.asarray(stored), extra=extra)


def creep(evidence: Evidence) -> StoredComparison | None:
    """Compare the present level with the anchor's; None if no sessions followed the anchor.

    The present level is that of this session and the newest stored ones after the anchor.

    Raises:
        ValueError: a sample that the metric can't have.
    """
    view, metric = evidence.baseline, evidence.check.metric
    if not has_anchor(evidence) or view is None:
        return None
    if len(judged_samples(evidence)) < MIN_PROCESSES_TO_CALL:
        return None
    anchor = tuple(metric.signed_log(session_level(metric, session)) for session in view.anchor)
    later = [metric.signed_log(session_level(metric, session)) for session in _since_anchor(view)]
    now = metric.signed_log(session_level(metric, judged_samples(evidence)))
    lead = _judged_fastest(evidence) - now
    return _crept(anchor, (*later, now)[-RECENT:], lead, evidence.check.tolerance)


def _since_anchor(view: BaselineSamples) -> tuple[Samples, ...]:
    """Return the stored sessions after the last one of the anchor."""
    indices = [i for i, source in enumerate(view.sources) if source in view.anchor_sources]
    return view.sessions[indices[-1] + 1 :] if indices else view.sessions


@lru_cache(maxsize=1024)
def _crept(
    anchor: tuple[float, ...], recent: tuple[float, ...], lead: float, tolerance: float
) -> StoredComparison:
    import numpy as np

    from pytest_llmperf.stats.prediction import creep as creep_of

    crept = creep_of(np.asarray(anchor), np.asarray(recent))
    return StoredComparison(
        effect=float(crept.slowdown),
        low=float(crept.lower(0.5 + LEVEL / 2)),
        high=float(crept.upper(0.5 + LEVEL / 2)),
        bound=float(crept.upper(1.0 - FALSE_PASSES)),
        p_worse=float(crept.p_worse(zone_of(tolerance).negligible - lead / len(recent))),
        sessions=len(anchor),
    )


def has_anchor(evidence: Evidence) -> bool:
    """Whether the window has moved on from the anchor, so that both are judged."""
    view = evidence.baseline
    if evidence.pairs is not None or view is None or not is_comparable(view):
        return False
    return bool(view.anchor) and bool(set(view.sources) - set(view.anchor_sources))


def _judged_fastest(evidence: Evidence) -> float:
    """Return the level of the fastest process; -inf if too few processes ran to call a slowdown."""
    judged = judged_samples(evidence)
    return _fastest(evidence, judged) if len(judged) >= MIN_PROCESSES_TO_CALL else -math.inf


def _fastest(evidence: Evidence, samples: Samples) -> float:
    """Return the level of a session's fastest process, on the log scale."""
    metric = evidence.check.metric
    return min(metric.signed_log(session_level(metric, (process,))) for process in samples)


def _extra(evidence: Evidence) -> float:
    """Return this session's extra variance if it measured fewer processes than the stored ones."""
    view = evidence.baseline
    assert view is not None
    usual = sum(len(session) for session in view.sessions) / len(view.sessions)
    measured = len(judged_samples(evidence))
    if measured >= usual:
        return 0.0
    spreads = [_spread(evidence, session) for session in view.sessions if len(session) > 1]
    between = sum(spreads) / len(spreads) if spreads else 0.02**2
    return between * (1.0 / measured - 1.0 / usual)


def _spread(evidence: Evidence, session: tuple[tuple[float, ...], ...]) -> float:
    metric = evidence.check.metric
    return variance(metric.signed_log(session_level(metric, (process,))) for process in session)
