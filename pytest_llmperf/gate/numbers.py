"""Numbers that a verdict shows, computed from samples: medians, differences, changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.rules import slowdown
from pytest_llmperf.gate.sequential import sequential_evidence
from pytest_llmperf.stats.summary import Summary, process_medians, summarise, summarise_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.baselines.samples import BaselineSamples
    from pytest_llmperf.gate.check import Evidence, Samples
    from pytest_llmperf.metrics import Metric


@dataclass(frozen=True)
class Comparison:
    """Summaries of one check's samples, and its change.

    Attributes:
        current: this session, or None if nothing was measured.
        baseline: earlier sessions of the same workload, or the base side, or None.
        change: slowdown as a fraction, positive is worse, or None.
        baseline_sessions: number of earlier sessions in ``baseline``.
    """

    current: Summary | None
    baseline: Summary | None
    change: float | None
    baseline_sessions: int


#: Comparison of a check without usable samples.
NOTHING = Comparison(None, None, None, 0)


def compare(evidence: Evidence) -> Comparison:
    """Reduce the evidence of one check to its numbers.

    Interleaved sides are compared pair by pair; else this session is compared with
    the geometric mean of the stored ones.

    Raises:
        ValueError: a sample that the metric can't have.
    """
    metric, pairs, view = evidence.check.metric, evidence.pairs, evidence.baseline
    if metric.kind == "share":
        return _shares(evidence)
    current = _summary(evidence.samples, metric.resolution) if evidence.samples else None
    if pairs is not None:
        if not pairs.candidate:
            return Comparison(current, None, None, 0)
        effect = sequential_evidence(
            paired_differences(evidence), evidence.check.tolerance, metric
        ).effect
        candidate = _summary(pairs.candidate, metric.resolution)
        base = _summary(pairs.base, metric.resolution)
        return Comparison(candidate, base, slowdown(effect), 0)
    if view is not None and view.status == "workload changed" and view.sessions:
        # Both are shown, but no change, because the work differs.
        other = summarise_sessions(view.sessions, metric.resolution)
        return Comparison(current, other, None, len(view.sessions))
    if view is None or not is_comparable(view):
        return Comparison(current, None, None, 0)
    centre = _centre(metric, [session_level(metric, session) for session in view.sessions])
    baseline = replace(summarise_sessions(view.sessions, metric.resolution), value=centre)
    change = metric.slowdown(current.value, centre) if current is not None else None
    return Comparison(current, baseline, change, len(view.sessions))


def _shares(evidence: Evidence) -> Comparison:
    """Summarise shares, without a change, because a difference of shares is not a slowdown."""
    pairs = evidence.pairs
    rows = evidence.samples if pairs is None else pairs.candidate
    base = None if pairs is None or not pairs.base else share_summary(pairs.base)
    return Comparison(share_summary(rows) if rows else None, base, None, 0)


def share_summary(rows: Samples) -> Summary:
    """Summarise the share of 1 in rows of 0 and 1, with the interval for the effective size."""
    from pytest_llmperf.stats.proportions import binomial_interval, effective_size

    total = sum(map(len, rows))
    value = sum(map(sum, rows)) / total
    size = round(effective_size([[x > 0 for x in row] for row in rows]))
    low, high = binomial_interval(round(value * size), size)
    return Summary(value, low, high, len(rows), total)


# Cached: a session is judged after every round, and few of its samples are new.
@lru_cache(maxsize=4096)
def _summary(samples: Samples, resolution: float | None) -> Summary:
    return summarise(samples, resolution)


@lru_cache(maxsize=4096)
def _medians(samples: Samples, resolution: float | None) -> tuple[float, ...]:
    return tuple(process_medians(samples, resolution))


def is_comparable(view: BaselineSamples) -> bool:
    """Whether the baseline holds samples of the same workload."""
    return view.status == "ok" and bool(view.sessions)


def session_level(metric: Metric, samples: Samples) -> float:
    """Return the level of a session: the median of its per-process medians, base unit.

    Raises:
        ValueError: no samples, or one that the metric can't have.
    """
    return _summary(samples, metric.resolution).value


def _centre(metric: Metric, levels: Sequence[float]) -> float:
    """Return the geometric mean of sessions' levels; their median if all are unmeasurably small."""
    if metric.resolution is not None and max(levels) <= metric.resolution:
        return median(levels)
    return math.exp(sum(map(metric.log, levels)) / len(levels))


def paired_differences(evidence: Evidence) -> tuple[float, ...]:
    """Return each pair's difference of the sides, on the log scale; positive is worse.

    Raises:
        ValueError: as ``compare``.
    """
    pairs = evidence.pairs
    if pairs is None or not pairs.candidate:
        return ()
    if pairs.differences is not None:
        return pairs.differences
    return differences(evidence.check.metric, pairs.candidate, pairs.base)


def differences(metric: Metric, candidate: Samples, base: Samples) -> tuple[float, ...]:
    """Return each pair's difference of the sides' medians, on the log scale; positive is worse.

    Raises:
        ValueError: a sample that the metric can't have.
    """
    medians = (_medians(side, metric.resolution) for side in (candidate, base))
    return tuple(metric.signed_log(a) - metric.signed_log(b) for a, b in zip(*medians, strict=True))


def target_differences(evidence: Evidence) -> tuple[float, ...]:
    """Return each process's distance from the limit, on the log scale; positive misses it.

    Raises:
        ValueError: as ``compare``, or the check has no limit.
    """
    metric, limit = evidence.check.metric, evidence.check.limit
    if limit is None:
        raise ValueError(f"{metric.name} has no target")
    if not evidence.samples:
        return ()
    if metric.resolution is not None:
        # A measured zero must lie clearly below the limit.
        metric = replace(metric, resolution=min(metric.resolution, limit / 2.0))
    edge = metric.signed_log(limit)
    medians = _medians(evidence.samples, metric.resolution)
    return tuple(metric.signed_log(value) - edge for value in medians)
