"""The mathematics of the gate, all of it: from samples to changes and to kinds.

This is the plain form: a fixed number of processes, a median against a median,
and a tolerance. Strategies only put words to what these functions decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.stats.summary import Summary, summarise, summarise_sessions

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import BaselineView, Check, Evidence


@dataclass(frozen=True)
class Comparison:
    """The numbers of one check.

    Attributes:
        current: this session, or None if nothing was measured.
        baseline: earlier sessions of the same workload, or None.
        change: slowdown as a fraction, positive is worse, or None.
        baseline_sessions: how many earlier sessions ``baseline`` rests on.
    """

    current: Summary | None
    baseline: Summary | None
    change: float | None
    baseline_sessions: int


def compare(evidence: Evidence) -> Comparison:
    """Reduce the evidence to its numbers.

    The current value is the median of per-process medians; the baseline's is the
    median over its sessions of the same.

    Raises:
        ValueError: a sample that is not a positive finite number.
    """
    current = summarise(evidence.samples) if evidence.samples else None
    view = evidence.baseline
    if view is None or not is_comparable(view):
        return Comparison(current, None, None, 0)
    baseline = summarise_sessions(view.sessions)
    change = None
    if current is not None:
        change = evidence.check.metric.slowdown(current.value, baseline.value)
    return Comparison(current, baseline, change, len(view.sessions))


def is_comparable(view: BaselineView) -> bool:
    """Whether the baseline holds samples of the same workload."""
    return view.status == "ok" and bool(view.sessions)


def is_decidable(evidence: Evidence) -> bool:
    """Whether enough was measured to judge: every planned process."""
    return len(evidence.samples) >= evidence.planned_processes


def target_kind(check: Check, current: Summary) -> VerdictKind:
    """``missed`` when the value is on the wrong side of the limit, else ``pass``.

    Raises:
        ValueError: the check has no limit.
    """
    if check.limit is None:
        raise ValueError(f"{check.metric.name} has no target")
    missed = check.metric.violates(current.value, check.limit)
    return VerdictKind.MISSED if missed else VerdictKind.PASS


def change_kind(change: float, tolerance: float) -> VerdictKind:
    """``regressed`` beyond the tolerance, ``improved`` beyond it the other way, else ``pass``."""
    if change > tolerance:
        return VerdictKind.REGRESSED
    if change < -tolerance:
        return VerdictKind.IMPROVED
    return VerdictKind.PASS
