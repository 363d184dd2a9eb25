"""From samples to the numbers a verdict shows: medians per process, differences, changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.rules import slowdown
from pytest_llmperf.gate.running import running
from pytest_llmperf.metrics import Direction
from pytest_llmperf.stats.summary import (
    Summary,
    process_medians,
    summarise,
    summarise_sessions,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.baselines.evidence import BaselineSamples
    from pytest_llmperf.gate.check import Evidence, Samples
    from pytest_llmperf.metrics import Metric


@dataclass(frozen=True)
class Comparison:
    """The numbers of one check.

    Attributes:
        current: this session, or None if nothing was measured.
        baseline: earlier sessions of the same workload, or the base side, or None.
        change: slowdown as a fraction, positive is worse, or None.
        baseline_sessions: how many earlier sessions ``baseline`` rests on.
    """

    current: Summary | None
    baseline: Summary | None
    change: float | None
    baseline_sessions: int


#: Of a check without usable samples.
NOTHING = Comparison(None, None, None, 0)


def compare(evidence: Evidence) -> Comparison:
    """Reduce the evidence to its numbers.

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
        effect = running(paired_differences(evidence), evidence.check.tolerance, metric).effect
        ours, theirs = (_summary(one, metric.resolution) for one in (pairs.candidate, pairs.base))
        return Comparison(ours, theirs, slowdown(effect), 0)
    if view is not None and view.status == "workload changed" and view.sessions:
        # Side by side, for a reader; no change, because it was other work.
        other = summarise_sessions(view.sessions, metric.resolution)
        return Comparison(current, other, None, len(view.sessions))
    if view is None or not is_comparable(view):
        return Comparison(current, None, None, 0)
    centre = _centre(metric, [session_level(metric, session) for session in view.sessions])
    baseline = replace(summarise_sessions(view.sessions, metric.resolution), value=centre)
    change = metric.slowdown(current.value, centre) if current is not None else None
    return Comparison(current, baseline, change, len(view.sessions))


def _shares(evidence: Evidence) -> Comparison:
    """Shares have no logarithm: their difference is not a slowdown, and is not shown as one."""
    pairs = evidence.pairs
    rows = evidence.samples if pairs is None else pairs.candidate
    base = None if pairs is None or not pairs.base else share_summary(pairs.base)
    return Comparison(share_summary(rows) if rows else None, base, None, 0)


def share_summary(rows: Samples) -> Summary:
    """The share of rows of 0 and 1, and its exact interval for as many independent iterations."""
    from pytest_llmperf.stats.proportions import binomial_interval, effective_size

    total = sum(map(len, rows))
    value = sum(map(sum, rows)) / total
    size = round(effective_size([[x > 0 for x in row] for row in rows]))
    low, high = binomial_interval(round(value * size), size)
    return Summary(value, low, high, len(rows), total)


# A session is judged after every round, and most of its samples were there before.
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
    """What a session measured: the median of its per-process medians, base unit.

    Raises:
        ValueError: no samples, or one that the metric can't have.
    """
    return _summary(samples, metric.resolution).value


def _centre(metric: Metric, levels: Sequence[float]) -> float:
    """Geometric mean of the levels of sessions; zero where all are below the resolution."""
    if metric.resolution is not None and max(levels) <= metric.resolution:
        return median(levels)
    return math.exp(sum(map(metric.log, levels)) / len(levels))


def badness(metric: Metric, value: float) -> float:
    """The logarithm of a value with the sign turned so that more is worse."""
    return -metric.log(value) if metric.direction is Direction.HIGHER else metric.log(value)


def paired_differences(evidence: Evidence) -> tuple[float, ...]:
    """How much worse the candidate was than the base, pair by pair, on the log scale.

    Raises:
        ValueError: as ``compare``.
    """
    pairs = evidence.pairs
    if pairs is None or not pairs.candidate:
        return ()
    return differences(evidence.check.metric, pairs.candidate, pairs.base, pairs.beside)


def differences(
    metric: Metric, candidate: Samples, base: Samples, beside: Sequence[bool] = ()
) -> tuple[float, ...]:
    """How much worse the candidate was in each pair, on the log scale.

    Of two processes that took turns (``beside``, by pair; empty: none did) it is the median of
    the differences between neighbours: what the machine did to both is in neither. Else it is
    the difference of their medians.

    Raises:
        ValueError: a sample that the metric can't have.
    """
    turns = beside or (False,) * len(candidate)
    pairs = zip(candidate, base, turns, strict=True)
    return tuple(_difference(metric, ours, theirs, took) for ours, theirs, took in pairs)


# A session is judged after every round, and most of its pairs were there before.
@lru_cache(maxsize=4096)
def _difference(
    metric: Metric, candidate: tuple[float, ...], base: tuple[float, ...], took_turns: bool
) -> float:
    ours, theirs = process_medians([candidate, base], metric.resolution)
    if took_turns and len(candidate) == len(base):
        neighbours = zip(candidate, base, strict=True)
        return median(badness(metric, a) - badness(metric, b) for a, b in neighbours)
    return badness(metric, ours) - badness(metric, theirs)


def target_differences(evidence: Evidence) -> tuple[float, ...]:
    """How far each process was beyond the limit, on the log scale; positive misses it.

    Raises:
        ValueError: as ``compare``, or the check has no limit.
    """
    metric, limit = evidence.check.metric, evidence.check.limit
    if limit is None:
        raise ValueError(f"{metric.name} has no target")
    if not evidence.samples:
        return ()
    if metric.resolution is not None:
        # However low a limit is, zero lies clearly below it.
        metric = replace(metric, resolution=min(metric.resolution, limit / 2.0))
    edge = badness(metric, limit)
    medians = _medians(evidence.samples, metric.resolution)
    return tuple(badness(metric, value) - edge for value in medians)
