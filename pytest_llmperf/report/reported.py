"""Sessions to show, read from reports or records; their verdicts are taken as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from pytest_llmperf.baselines.files import FileKind, read_file
from pytest_llmperf.compare.report_file import REPORT_SCHEMA
from pytest_llmperf.gate.verdict import FAILING, VerdictKind
from pytest_llmperf.report.reported_checks import VOID, ReportedCheck, ReportedQuality, ShownMetric
from pytest_llmperf.report.reported_details import (
    OptionalNumber,
    ReportedFitness,
    ReportedGpu,
    ReportedHistory,
    ReportedLoad,
    ReportedRoofline,
    ReportedTelemetry,
    Texts,
)
from pytest_llmperf.session.recorded import Location, UnmeasuredTest
from pytest_llmperf.session.report_history import PastSession
from pytest_llmperf.session.shown_timelines import ShownTimeline
from pytest_llmperf.stored_json import (
    MAY_LACK,
    NOT_STORED,
    Bounded,
    Flag,
    Name,
    ShapeError,
    Stored,
    Whole,
    read,
    unexpected,
)

if TYPE_CHECKING:
    from pathlib import Path

#: Keys that a record of ``--llmperf-record`` has and a report has not.
_RECORD_KEYS = frozenset({"recorded", "provenance"})


@dataclass(frozen=True)
class ReportedWorkload(Stored):
    """The work that a test asks of the engine."""

    summary: str
    hash: str = ""


@dataclass(frozen=True)
class ReportedCause(Stored):
    """A possible cause of a slow test."""

    title: str
    evidence: str
    change: str
    certain: Flag = True


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
    metrics: tuple[ShownMetric, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    earlier_pairs: Whole = 0
    fitness: tuple[ReportedFitness, ...] = ()
    roofline: ReportedRoofline | None = None
    telemetry: ReportedTelemetry | None = None
    diagnosis: tuple[ReportedCause, ...] = ()
    quality: ReportedQuality | None = None
    location: Location | None = None
    timelines: tuple[ShownTimeline, ...] = ()
    command: str | None = None
    doctor_command: str | None = None
    load: ReportedLoad | None = None

    @property
    def checks(self) -> tuple[ReportedCheck, ...]:
        """All checks: speed, then quality."""
        return (*self.metrics, *(self.quality.checks if self.quality is not None else ()))

    @property
    def worst(self) -> VerdictKind | None:
        """The worst of the test's verdict and those of its checks; None if nothing was judged."""
        kinds = {self.verdict, *(check.verdict for check in self.checks)}
        return min((kind for kind in kinds if kind), key=lambda kind: kind.rank, default=None)

    @property
    def other_differences(self) -> tuple[str, ...]:
        """Differences between the two sides that are not listed as causes."""
        return tuple(text for text in self.differences if text not in self.causes)

    @property
    def is_void(self) -> bool:
        """Whether all numbers of the test are void, by its own verdict."""
        return self.verdict in VOID


@dataclass(frozen=True)
class ReportedProvenance(Stored):
    """The measured commit, and the versions of the software that measured it."""

    commit: str | None
    dirty: Flag
    branch: str | None = None
    plugin: str = ""
    python: str = ""
    engine: str = ""
    engine_version: str = ""
    backend: str = ""


@dataclass(frozen=True)
class ShownFacts(Stored):
    """Facts about the whole session."""

    machine: Name
    model: str
    engine: str
    processes: Whole
    iterations: Whole
    wall_s: Bounded
    busy: Texts
    notes: Texts
    baselines: Texts
    against: str | None
    base_commit: str | None
    side_differences: Texts
    false_alarms: OptionalNumber
    fails: frozenset[VerdictKind] = FAILING
    provenance: ReportedProvenance | None = None
    unit: str = "process"
    seed: Whole = 0
    recorded_to: str | None = None
    fitness: tuple[ReportedFitness, ...] = ()
    gpus: tuple[ReportedGpu, ...] = ()
    measured_at: str | None = None
    command: str | None = None
    model_file: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    machine_facts: dict[str, Any] = field(default_factory=dict)
    history: ReportedHistory | None = None


@dataclass(frozen=True)
class ReportedComparison(Stored):
    """The part that ``llmperf compare --format json`` adds: both sides, and what was left out."""

    base: str
    judged: str
    base_sessions: Whole
    unlike: Texts
    added: tuple[Name, ...]
    removed: tuple[Name, ...]
    why_not: str | None
    remarks: Texts
    command: str | None


def _consistent(test: ShownTest) -> ShownTest:
    """Check that lists whose items charts pair up have the same length."""
    for number, metric in enumerate(test.metrics):
        levels = metric.history
        if levels is not None and len(levels.sessions) != len(levels.values):
            raise unexpected(
                f"{len(levels.sessions)} values", levels.values, "metrics", number, "history"
            )
    for gpu in test.telemetry.gpus if test.telemetry else ():
        points = len(gpu.course.seconds)
        for name, values in gpu.course.counters.items():
            if len(values) != points:
                raise unexpected(f"{points} values", values, "telemetry", name)
    return test


@dataclass(frozen=True)
class ReportedSession(Stored):
    """A session to show.

    Attributes:
        session: facts about the whole session.
        tests: the measured tests, in the order they ran.
        unmeasured: tests that ran but were not measured.
        compare: the comparison, if the report is of one.
        is_record: whether this is a record of ``--llmperf-record``, which has no verdicts.
    """

    session: ShownFacts
    tests: tuple[Annotated[ShownTest, AfterValidator(_consistent)], ...]
    unmeasured: tuple[UnmeasuredTest, ...] = ()
    compare: ReportedComparison | None = field(default=None, metadata=MAY_LACK)
    is_record: bool = field(default=False, metadata=NOT_STORED)

    @property
    def removed(self) -> tuple[str, ...]:
        """Tests that only the base of a comparison has."""
        return self.compare.removed if self.compare is not None else ()

    @property
    def past(self) -> tuple[PastSession, ...]:
        """The earlier sessions that histories refer to."""
        return self.session.history.sessions if self.session.history else ()


def read_session(path: Path) -> ReportedSession:
    """Read a report of ``--llmperf-json``, or a stored session of ``--llmperf-record``.

    Raises:
        BadRecordError: the file is unreadable, damaged, neither of the two, or of a newer layout.
    """
    return read_file(path, _SESSION)


def read_report(path: Path) -> ReportedSession:
    """Read a report of ``--llmperf-json``; a record has too little data for a page.

    Raises:
        BadRecordError: the file is unreadable, damaged, not a report, or of a newer layout.
    """
    return read_file(path, _REPORT)


def session_of(data: Any) -> ReportedSession:
    """Check a report's parsed JSON, and return the session in it.

    Raises:
        ShapeError: an item is missing or wrong; the message names it.
    """
    refused = data.get("compare") if isinstance(data, dict) else None
    if isinstance(refused, dict) and data.get("session") is None:
        raise ShapeError(f"its two sides could not be compared: {refused.get('why_not')}")
    return read(ReportedSession, data)


def _from_json(data: Any) -> ReportedSession:
    if isinstance(data, dict) and data.keys() >= _RECORD_KEYS:
        from pytest_llmperf.report.forms.recorded import session_of_record

        return session_of_record(data)
    return session_of(data)


_AGAIN = "name a report; to write one: pytest -m perf --llmperf-json FILE"
_SESSION: FileKind[ReportedSession] = FileKind(
    "a report of a session", _AGAIN, REPORT_SCHEMA, _from_json, named=True
)
_REPORT: FileKind[ReportedSession] = FileKind(
    "a report of a session", _AGAIN, REPORT_SCHEMA, session_of, named=True
)
