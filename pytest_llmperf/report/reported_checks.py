"""The checks of a reported test: what was measured, its limit, its verdict and the reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.metric_types import Direction, Metric, Unit
from pytest_llmperf.own_metrics import not_in_runs
from pytest_llmperf.report.reported_details import OptionalNumber, ReportedProgress, Texts, Values
from pytest_llmperf.session.report_history import PastLevels
from pytest_llmperf.stored_json import MAY_LACK, Bounded, Flag, Name, Stored, Whole, expect
from pytest_llmperf.text import in_short

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Kinds of verdict whose numbers prove nothing.
VOID = frozenset({VerdictKind.ERROR, VerdictKind.INVALID})
#: Kinds of verdict that prove that a check holds.
PROVEN = frozenset({VerdictKind.PASS, VerdictKind.IMPROVED})


@dataclass(frozen=True)
class ReportedReason(Stored):
    """The verdict of one strategy."""

    verdict: VerdictKind
    strategy: str
    text: str


@dataclass(frozen=True)
class ReportedProof(Stored):
    """The change that a verdict rests on, with its interval; fractions, positive is worse."""

    effect: OptionalNumber
    low: OptionalNumber
    high: OptionalNumber


@dataclass(frozen=True)
class ReportedBaseline(Stored):
    """Level of the stored sessions, or of the base side, in the metric's base unit."""

    value: Bounded
    low: OptionalNumber
    high: OptionalNumber
    sessions: Whole
    sources: Texts


@dataclass(frozen=True)
class ReportedCheck(Stored):
    """One figure of a test: speed, or quality of its answers.

    Attributes:
        name, label, unit, direction: description of the metric.
        limit, value, low, high: in base units.
        verdict: the session's verdict; None for a figure that is shown only.
        explanation: explanation of the verdict; an error's may have several lines.
        claim: the finding in a few words, without the facts behind it.
        change: slowdown as a fraction, positive is worse.
        strategy: the strategy that decided; ``proof`` is its proof.
        notes, reasons: further findings, and the verdicts of all strategies.
    """

    name: Name
    label: str
    unit: Unit
    direction: Direction
    limit: OptionalNumber
    value: OptionalNumber
    low: OptionalNumber
    high: OptionalNumber
    verdict: VerdictKind | None
    explanation: str | None
    claim: str | None = field(default=None, metadata=MAY_LACK)
    baseline: ReportedBaseline | None = field(default=None, metadata=MAY_LACK)
    change: OptionalNumber = field(default=None, metadata=MAY_LACK)
    strategy: str | None = field(default=None, metadata=MAY_LACK)
    proof: ReportedProof | None = field(default=None, metadata=MAY_LACK)
    notes: Texts = field(default=(), metadata=MAY_LACK)
    reasons: tuple[ReportedReason, ...] = field(default=(), metadata=MAY_LACK)

    @cached_property
    def metric(self) -> Metric:
        """The metric as described by the report; its package need not be installed."""
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
        """Kinds of the verdict and of those it outranked; empty without a verdict."""
        if self.verdict is None:
            return frozenset()
        return frozenset({self.verdict, *(reason.verdict for reason in self.reasons)})

    @property
    def finding(self) -> str:
        """The verdict's claim in one line, or an empty text."""
        return " ".join(in_short(self.claim or self.explanation or "").split())


@dataclass(frozen=True)
class ShownMetric(ReportedCheck):
    """A metric of a test, with its samples.

    Attributes:
        gated: whether the metric is judged.
        tolerance: the slowdown to catch, as a fraction.
        samples, base_samples: processes x iterations; row i of both is pair i.
        progress: course of a sequential comparison, or None.
        history: levels in earlier sessions, or None.
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
    """Group judged checks by verdict and finding, the worst first; a group shares a line."""
    groups: dict[tuple[VerdictKind, str], list[ReportedCheck]] = {}
    for check in checks:
        if check.verdict is not None:
            groups.setdefault((check.verdict, check.finding), []).append(check)
    return dict(sorted(groups.items(), key=lambda group: group[0][0].rank))
