"""The checks of a reported test: what was measured, its limit, its verdict and the reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.metric_types import Direction, Metric, Unit
from pytest_llmperf.own_metrics import not_in_runs
from pytest_llmperf.report.reported_details import (
    Maybe,
    ReportedProgress,
    Texts,
    Values,
)
from pytest_llmperf.session.report_history import PastLevels
from pytest_llmperf.stored_json import MAY_LACK, Bounded, Flag, Name, Stored, Whole, expect
from pytest_llmperf.text import in_short

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Verdicts whose numbers prove nothing.
VOID = frozenset({VerdictKind.ERROR, VerdictKind.INVALID})
#: Verdicts that say that something holds.
PROVEN = frozenset({VerdictKind.PASS, VerdictKind.IMPROVED})


@dataclass(frozen=True)
class ReportedReason(Stored):
    """What one strategy found."""

    verdict: VerdictKind
    strategy: str
    text: str


@dataclass(frozen=True)
class ReportedProof(Stored):
    """The change that a verdict rests on, with its interval; fractions, positive is worse."""

    effect: Maybe
    low: Maybe
    high: Maybe


@dataclass(frozen=True)
class ReportedBaseline(Stored):
    """Level of the stored sessions, or of the base side, in the metric's base unit."""

    value: Bounded
    low: Maybe
    high: Maybe
    sessions: Whole
    sources: Texts


@dataclass(frozen=True)
class ReportedCheck(Stored):
    """One figure of a test: of its speed, or of its answers' quality.

    Attributes:
        name, label, unit, direction: of the metric.
        limit, value, low, high: in base units.
        verdict: the session's own; None for a figure that is shown only.
        explanation: of the verdict; an error's may have several lines.
        claim: the finding in a few words, without the facts behind it.
        change: slowdown as a fraction, positive is worse.
        strategy: which one decided, and ``proof`` is of.
        notes, reasons: what else was found.
    """

    name: Name
    label: str
    unit: Unit
    direction: Direction
    limit: Maybe
    value: Maybe
    low: Maybe
    high: Maybe
    verdict: VerdictKind | None
    explanation: str | None
    claim: str | None = field(default=None, metadata=MAY_LACK)
    baseline: ReportedBaseline | None = field(default=None, metadata=MAY_LACK)
    change: Maybe = field(default=None, metadata=MAY_LACK)
    strategy: str | None = field(default=None, metadata=MAY_LACK)
    proof: ReportedProof | None = field(default=None, metadata=MAY_LACK)
    notes: Texts = field(default=(), metadata=MAY_LACK)
    reasons: tuple[ReportedReason, ...] = field(default=(), metadata=MAY_LACK)

    @cached_property
    def metric(self) -> Metric:
        """The metric as the report describes it; its package need not be installed."""
        return Metric(
            self.name,
            self.label,
            self.unit,
            self.direction,
            quantity=self.name,
            formula="",
            source="",
            compute=not_in_runs,
        )

    @property
    def kinds(self) -> frozenset[VerdictKind]:
        """The verdict and those that it outranked; empty without one."""
        if self.verdict is None:
            return frozenset()
        return frozenset({self.verdict, *(reason.verdict for reason in self.reasons)})

    @property
    def finding(self) -> str:
        """The verdict's claim in one line; may be empty."""
        return " ".join(in_short(self.claim or self.explanation or "").split())


@dataclass(frozen=True)
class ShownMetric(ReportedCheck):
    """A metric of a test, with its samples.

    Attributes:
        gated: whether it was to be judged.
        tolerance: the slowdown to catch, a fraction.
        samples, base_samples: processes x iterations; row i of both is pair i.
        progress: how the comparison went, where samples decide one by one.
        history: its levels in earlier sessions.
    """

    gated: Flag = False
    tolerance: Annotated[Bounded, expect("a number of 0 or more", lambda one: one >= 0)] = 0.0
    samples: tuple[Values, ...] = ()
    base_samples: tuple[Values, ...] = ()
    progress: ReportedProgress | None = None
    history: PastLevels | None = None


@dataclass(frozen=True)
class ReportedQuality(Stored):
    """The judged figures of the answers' quality."""

    checks: tuple[ReportedCheck, ...]


def claims(checks: Iterable[ReportedCheck]) -> dict[tuple[VerdictKind, str], list[ReportedCheck]]:
    """Group judged checks by verdict and finding, the worst first: those share a line."""
    groups: dict[tuple[VerdictKind, str], list[ReportedCheck]] = {}
    for check in checks:
        if check.verdict is not None:
            groups.setdefault((check.verdict, check.finding), []).append(check)
    return dict(sorted(groups.items(), key=lambda one: one[0][0].rank))
