"""Reads a ``--llmperf-json`` report as a stored session: its samples and its own verdicts.

A report has only the names of its machine and model, but unlike a record it says which checks the
session judged. Only the parts that a comparison needs are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from pytest_llmperf.baselines.files import FileKind, read_file
from pytest_llmperf.baselines.folder import MAX_BYTES
from pytest_llmperf.baselines.record import (
    BaselineRecord,
    MetricRecord,
    ModelIdentity,
    Provenance,
    RecordedSession,
    TestRecord,
    check_metric,
)
from pytest_llmperf.baselines.tolerances import CalibratedTolerance
from pytest_llmperf.machine.fingerprint import Key, Machine
from pytest_llmperf.metrics import known_metric
from pytest_llmperf.request_digest import StoredDigest
from pytest_llmperf.session.recorded import UnmeasuredTest
from pytest_llmperf.stored_json import Flag, Number, Stored, Whole, expect, read, unexpected

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The newest layout of a report that this version reads.
REPORT_SCHEMA = 1
#: Keys that every report has, and keys that only a record has.
_REPORT_KEYS = frozenset({"session", "counts", "tests"})
_RECORD_KEYS = frozenset({"recorded", "provenance"})


def is_report(path: Path) -> bool:
    """Whether a file looks like a report; ``read_report`` raises the errors in it."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return False
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.keys() >= _REPORT_KEYS and not data.keys() & _RECORD_KEYS


@dataclass(frozen=True)
class ReportedMetric(Stored):
    """The parts of a test's metric that a comparison needs; the verdict is the session's own."""

    name: str
    unit: str
    gated: Flag
    limit: Number | None
    tolerance: Number
    samples: tuple[tuple[Number, ...], ...]
    verdict: str | None
    explanation: str | None
    calibrated: CalibratedTolerance | None

    @property
    def against_stored(self) -> float:
        """Its tolerance for comparing sessions that were measured separately."""
        return self.tolerance if self.calibrated is None else self.calibrated.against_stored

    @property
    def text(self) -> str:
        """The verdict's explanation in one line; may be empty."""
        return " ".join((self.explanation or "").split())

    @property
    def is_share(self) -> bool:
        """Whether it is a share of iterations, so that its samples are 0 or 1, not quantities."""
        metric = known_metric(self.name)
        return metric is not None and metric.kind == "share"


def _check_reported_metric(metric: ReportedMetric) -> ReportedMetric:
    """Check the items of a metric that a comparison will use."""
    if metric.samples and not metric.is_share:
        check_metric(metric.name, metric.unit, metric.samples)
    if metric.gated and not metric.is_share and not 0 < metric.tolerance < 1:
        raise unexpected("a share above 0 and below 1", metric.tolerance, "tolerance")
    if metric.verdict is not None:
        for name, number in (("limit", metric.limit), ("tolerance", metric.tolerance)):
            if number is not None and number <= 0:
                raise unexpected("a number above 0", number, name)
    return metric


@dataclass(frozen=True)
class _Work(Stored):
    """The workload of a test."""

    hash: Annotated[str, expect("the hash of a workload", bool)]
    summary: str
    requests: tuple[StoredDigest, ...]


@dataclass(frozen=True)
class ReportedTest(Stored):
    """A test in a report; with two sides (``against``), pairs of processes were measured."""

    nodeid: str
    workload: _Work
    against: Any
    metrics: tuple[Annotated[ReportedMetric, AfterValidator(_check_reported_metric)], ...]
    processes: Whole
    pairs: Whole

    def invalid(self, planned: int) -> tuple[str, ...]:
        """Return why the samples are invalid, in the words of a record."""
        reasons: dict[str, None] = {}
        kinds = {metric.verdict for metric in self.metrics if metric.verdict is not None}
        for metric in self.metrics:
            # A single metric may lack a value; an error that stopped the test is in all of them.
            if metric.verdict == "invalid" or (metric.verdict == "error" and kinds == {"error"}):
                reasons[(metric.explanation or metric.verdict).splitlines()[0]] = None
        # With two sides, a pair counts if both of its processes do.
        noun, done = (
            ("processes", self.processes) if self.against is None else ("pairs", self.pairs)
        )
        if not reasons and done < planned:
            reasons[f"{done} of {planned} {noun} were measured"] = None
        return tuple(reasons)

    def record(self, planned: int) -> TestRecord:
        """Return the test as a record would hold it."""
        return TestRecord(
            workload=self.workload.hash,
            summary=self.workload.summary,
            metrics={
                metric.name: MetricRecord(metric.unit, metric.samples)
                for metric in self.metrics
                if metric.samples and not metric.is_share
            },
            invalid=self.invalid(planned),
            requests=self.workload.requests,
        )

    def tolerances(self) -> dict[str, float]:
        """Return the tolerance of every judged check, for comparing stored sessions."""
        return {m.name: m.against_stored for m in self.metrics if m.gated and not m.is_share}

    @property
    def has_share(self) -> bool:
        """Whether it has a stall rate, which single sessions can't judge."""
        return any(metric.is_share for metric in self.metrics)


@dataclass(frozen=True)
class SessionReport:
    """A ``--llmperf-json`` report, read as a stored session.

    Attributes:
        record: its session. The machine has only a key, the model only a name, and the
            configuration and ``recorded`` are empty: a report does not have them.
        tests: by node id.
        unmeasured: the other tests that ran.
    """

    record: BaselineRecord
    tests: Mapping[str, ReportedTest]
    unmeasured: tuple[UnmeasuredTest, ...] = ()


def read_report(path: Path) -> SessionReport:
    """Read and check one report.

    Raises:
        BadRecordError: it is unreadable, corrupt, of another shape or of a newer schema.
    """
    return read_file(path, _REPORT)


@dataclass(frozen=True)
class _Session(Stored):
    """The session's machine, model and plan."""

    machine: Key
    model: str
    engine: str
    processes: Whole
    iterations: Whole
    seed: Whole
    busy: tuple[str, ...]


@dataclass(frozen=True)
class _File(Stored):
    """A report's file."""

    session: _Session
    tests: tuple[ReportedTest, ...]
    unmeasured: tuple[UnmeasuredTest, ...]


def _from_json(data: Any) -> SessionReport:
    """Rebuild the session from parsed JSON; raises ShapeError, naming the item."""
    file = read(_File, data)
    session, tests = file.session, {test.nodeid: test for test in file.tests}
    name, _, version = session.engine.partition(" ")
    record = BaselineRecord(
        recorded="",
        provenance=Provenance(None, False, None, "", "", name, version, ""),
        model=ModelIdentity(session.model, None),
        config={},
        machine=Machine(session.machine, {}, {}),
        session=RecordedSession(session.seed, session.processes, session.iterations, session.busy),
        tests={nodeid: test.record(session.processes) for nodeid, test in tests.items()},
    )
    return SessionReport(record, tests, file.unmeasured)


_REPORT: FileKind[SessionReport] = FileKind(
    "a report of a session",
    "name a report; to write one: pytest -m perf --llmperf-json FILE",
    REPORT_SCHEMA,
    _from_json,
    named=True,
)
