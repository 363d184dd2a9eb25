"""Reads a session to show it: its own verdicts, which are never judged again."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pytest_llmperf.baselines.files import FileKind, read_file
from pytest_llmperf.compare.report_file import REPORT_SCHEMA
from pytest_llmperf.gate.verdict import FAILING, VerdictKind
from pytest_llmperf.metric_types import Direction, Metric, Unit
from pytest_llmperf.own_metrics import not_in_runs
from pytest_llmperf.stored_json import (
    LATER,
    NOT_STORED,
    Flag,
    Number,
    ShapeError,
    Stored,
    Whole,
    expect,
    read,
)
from pytest_llmperf.text import in_short

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: A record of ``--llmperf-record`` has these and a report has not.
_RECORD_KEYS = frozenset({"recorded", "provenance"})
Texts = tuple[str, ...]
Name = Annotated[str, expect("a name", bool)]
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

    effect: Number | None
    low: Number | None
    high: Number | None


@dataclass(frozen=True)
class ReportedBaseline(Stored):
    """Level of the stored sessions, or of the base side, in the metric's base unit."""

    value: Number
    low: Number | None
    high: Number | None
    sessions: Whole


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
    limit: Number | None
    value: Number | None
    low: Number | None
    high: Number | None
    verdict: VerdictKind | None
    explanation: str | None
    claim: str | None = field(default=None, metadata=LATER)
    baseline: ReportedBaseline | None = field(default=None, metadata=LATER)
    change: Number | None = field(default=None, metadata=LATER)
    strategy: str | None = field(default=None, metadata=LATER)
    proof: ReportedProof | None = field(default=None, metadata=LATER)
    notes: Texts = field(default=(), metadata=LATER)
    reasons: tuple[ReportedReason, ...] = field(default=(), metadata=LATER)

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
class ReportedQuality(Stored):
    """The judged figures of the answers' quality."""

    checks: tuple[ReportedCheck, ...]


@dataclass(frozen=True)
class ReportedWorkload(Stored):
    """What a test asks of the engine."""

    summary: str


@dataclass(frozen=True)
class ShownLocation(Stored):
    """Where a test is defined: a file as pytest names it, and a line from 1."""

    file: Name
    line: Annotated[Whole, expect("a line number", lambda line: line > 0)]


@dataclass(frozen=True)
class ReportedCause(Stored):
    """A possible cause of a slow test."""

    title: str
    evidence: str
    change: str


@dataclass(frozen=True)
class ShownTest(Stored):
    """A measured test."""

    nodeid: Name
    verdict: VerdictKind | None
    workload: ReportedWorkload
    processes: Whole
    pairs: Whole
    against: str | None
    findings: Texts
    differences: Texts
    causes: Texts
    metrics: tuple[ReportedCheck, ...]
    diagnosis: tuple[ReportedCause, ...] = field(default=(), metadata=LATER)
    quality: ReportedQuality | None = field(default=None, metadata=LATER)
    location: ShownLocation | None = field(default=None, metadata=LATER)

    @property
    def checks(self) -> tuple[ReportedCheck, ...]:
        """Speed, then quality."""
        return (*self.metrics, *(self.quality.checks if self.quality is not None else ()))

    @property
    def worst(self) -> VerdictKind | None:
        """The worst of the test's verdict and those of its checks; None if nothing was judged."""
        kinds = {self.verdict, *(check.verdict for check in self.checks)}
        return min((kind for kind in kinds if kind), key=lambda kind: kind.rank, default=None)

    @property
    def is_void(self) -> bool:
        """Whether what stopped the test voids all of its numbers."""
        return self.verdict in VOID


@dataclass(frozen=True)
class ShownUnmeasuredTest(Stored):
    """A perf test that ran and was not measured.

    Attributes:
        nodeid: its name.
        outcome: pytest's: ``failed`` or ``skipped``.
        reason: why, in one line.
        location: where it is defined, or None.
    """

    nodeid: Name
    outcome: str
    reason: str
    location: ShownLocation | None

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.outcome == "failed"


@dataclass(frozen=True)
class ReportedProvenance(Stored):
    """The commit that was measured."""

    commit: str | None
    dirty: Flag


@dataclass(frozen=True)
class ShownFacts(Stored):
    """What a report says of the whole session."""

    machine: Name
    model: str
    engine: str
    processes: Whole
    iterations: Whole
    wall_s: Number
    busy: Texts
    notes: Texts
    baselines: Texts
    against: str | None
    base_commit: str | None
    side_differences: Texts
    false_alarms: Number | None
    fails: frozenset[VerdictKind] = field(default=FAILING, metadata=LATER)
    provenance: ReportedProvenance | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class ReportedComparison(Stored):
    """What ``llmperf compare --format json`` adds: the two sides, and what was not compared."""

    base: str
    judged: str
    base_sessions: Whole
    unlike: Texts
    removed: tuple[Name, ...]
    why_not: str | None


@dataclass(frozen=True)
class ReportedSession(Stored):
    """A session to show.

    Attributes:
        session: facts about all of it.
        tests: the measured ones, in the order they ran.
        unmeasured: the others that ran.
        compare: what it was compared with, for the report of a comparison.
        is_record: it is a stored session of ``--llmperf-record``, which has no verdicts.
    """

    session: ShownFacts
    tests: tuple[ShownTest, ...]
    unmeasured: tuple[ShownUnmeasuredTest, ...] = field(default=(), metadata=LATER)
    compare: ReportedComparison | None = field(default=None, metadata=LATER)
    is_record: bool = field(default=False, metadata=NOT_STORED)

    @property
    def removed(self) -> tuple[str, ...]:
        """Tests that only the base of a comparison has."""
        return self.compare.removed if self.compare is not None else ()


def read_session(path: Path) -> ReportedSession:
    """Read a report of ``--llmperf-json``, or a stored session of ``--llmperf-record``.

    Raises:
        BadRecordError: it is unreadable, damaged, neither of both, or of a newer layout.
    """
    return read_file(path, _SESSION)


def session_of(data: Any) -> ReportedSession:
    """Check parsed JSON of a report.

    Raises:
        ShapeError: an item is missing or wrong; the message names it.
    """
    return read(ReportedSession, data)


def claims(checks: Iterable[ReportedCheck]) -> dict[tuple[VerdictKind, str], list[ReportedCheck]]:
    """Group judged checks by verdict and finding, the worst first: those share a line."""
    groups: dict[tuple[VerdictKind, str], list[ReportedCheck]] = {}
    for check in checks:
        if check.verdict is not None:
            groups.setdefault((check.verdict, check.finding), []).append(check)
    return dict(sorted(groups.items(), key=lambda one: one[0][0].rank))


def _from_json(data: Any) -> ReportedSession:
    if isinstance(data, dict) and data.keys() >= _RECORD_KEYS:
        from pytest_llmperf.report.forms.recorded import session_of_record

        return session_of_record(data)
    refused = data.get("compare") if isinstance(data, dict) else None
    if isinstance(refused, dict) and data.get("session") is None:
        raise ShapeError(f"its two sides could not be compared: {refused.get('why_not')}")
    return session_of(data)


_SESSION: FileKind[ReportedSession] = FileKind(
    "a report of a session",
    "write it again: pytest -m perf --llmperf-json FILE",
    REPORT_SCHEMA,
    _from_json,
)
