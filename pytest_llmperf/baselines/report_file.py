"""Reads a report of ``--llmperf-json`` as what it also is: the samples of one session.

A report names its machine and its model and nothing else of them, and says which checks the
session judged, which a record does not. Only what is needed here is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.files import MAX_BYTES, FileKind, read_file
from pytest_llmperf.baselines.metric_record import read_metric
from pytest_llmperf.baselines.reader import Reader
from pytest_llmperf.baselines.record import (
    BaselineRecord,
    ModelIdentity,
    Provenance,
    SessionFacts,
    TestRecord,
    read_requests,
)
from pytest_llmperf.environment.machine import Machine
from pytest_llmperf.metrics import UnknownMetricError, get_metric

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The newest layout of a report that this version reads.
REPORT_SCHEMA = 1
#: A report has these and a record has not.
_REPORT_KEYS = frozenset({"session", "counts", "tests"})
_RECORD_KEYS = frozenset({"recorded", "provenance"})


@dataclass(frozen=True)
class OwnVerdict:
    """What a report's own session said of one metric.

    Attributes:
        kind: the verdict, such as ``regressed``.
        text: its explanation in one line; may be empty.
        limit: the target it was held to, base unit, or None.
        tolerance: the slowdown that it had to catch, a fraction.
    """

    kind: str
    text: str
    limit: float | None
    tolerance: float


@dataclass(frozen=True)
class Report:
    """What a report holds.

    Attributes:
        record: its session. The machine has a key only, the model a name, the configuration
            is empty, and ``recorded`` is "": a report does not say.
        judged: node id -> metric -> tolerance, of the checks that were judged there.
        not_compared: node ids of tests with a stall rate, which single sessions can't tell.
        verdicts: node id -> metric -> what the session itself said.
    """

    record: BaselineRecord
    judged: Mapping[str, Mapping[str, float]]
    not_compared: frozenset[str] = frozenset()
    verdicts: Mapping[str, Mapping[str, OwnVerdict]] = field(default_factory=dict)


def is_report(path: Path) -> bool:
    """Whether a file looks like a report; whatever else it is, or lacks, is said when read."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return False
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.keys() >= _REPORT_KEYS and not data.keys() & _RECORD_KEYS


def read_report(path: Path) -> Report:
    """Read and check one report.

    Raises:
        BadRecordError: it is unreadable, corrupt, of another shape or of a newer schema.
    """
    return read_file(path, _REPORT)


def _from_json(data: Any) -> Report:
    """Rebuild the session from parsed JSON; raises ShapeError, naming the item."""
    root = Reader(data)
    session = root["session"]
    name, _, version = session["engine"].text().partition(" ")
    planned = session["processes"].integer()
    tests = {test["nodeid"].text(): test for test in root["tests"].elements()}
    record = BaselineRecord(
        recorded="",
        provenance=Provenance(None, False, None, "", "", name, version, ""),
        model=ModelIdentity(session["model"].text(), None),
        config={},
        machine=session["machine"].via(_machine),
        session=SessionFacts(
            seed=session["seed"].integer(),
            processes=planned,
            iterations=session["iterations"].integer(),
            findings=tuple(text.text() for text in session["busy"].elements()),
        ),
        tests={nodeid: _test(test, planned) for nodeid, test in tests.items()},
    )
    return Report(
        record,
        {nodeid: _judged(test) for nodeid, test in tests.items()},
        frozenset(nodeid for nodeid, test in tests.items() if any(map(_is_share, _metrics(test)))),
        {nodeid: _verdicts(test) for nodeid, test in tests.items()},
    )


_REPORT: FileKind[Report] = FileKind(
    "a report of a session",
    "write it again: pytest -m perf --llmperf-json FILE",
    REPORT_SCHEMA,
    _from_json,
)


def _machine(key: Any) -> Machine:
    return Machine.from_json({"key": key, "strict": {}, "info": {}})


def _metrics(test: Reader) -> list[Reader]:
    return list(test["metrics"].elements())


def _is_share(metric: Reader) -> bool:
    """Whether a metric counts iterations: its samples are 0 and 1, no quantities."""
    try:
        return get_metric(metric["name"].text()).kind == "share"
    except UnknownMetricError:
        return False


def _test(test: Reader, planned: int) -> TestRecord:
    work = test["workload"]
    if not work["hash"].text():
        raise work["hash"].wrong("the hash of a workload")
    return TestRecord(
        workload=work["hash"].text(),
        summary=work["summary"].text(),
        metrics={
            (name := metric["name"].text()): read_metric(metric, name)
            for metric in _metrics(test)
            if not _is_share(metric) and any(metric["samples"].elements())
        },
        invalid=_invalid(test, planned),
        requests=read_requests(work),
    )


def _invalid(test: Reader, planned: int) -> tuple[str, ...]:
    """Say why a test's samples may not stand for a session, as its record would."""
    told: dict[str, None] = {}
    judged = [metric for metric in _metrics(test) if not metric["verdict"].is_null()]
    kinds = [metric["verdict"].text() for metric in judged]
    for metric, kind in zip(judged, kinds, strict=True):
        # One metric may lack a value alone; what stopped the test stopped all of them.
        if kind == "invalid" or (kind == "error" and set(kinds) == {"error"}):
            told[(metric["explanation"].optional_text() or kind).splitlines()[0]] = None
    # Of two sides a pair counts when both of its processes do.
    noun = "processes" if test["against"].is_null() else "pairs"
    done = test[noun].integer()
    if not told and done < planned:
        told[f"{done} of {planned} {noun} were measured"] = None
    return tuple(told)


def _judged(test: Reader) -> dict[str, float]:
    return {
        metric["name"].text(): _tolerance(metric["tolerance"])
        for metric in _metrics(test)
        if metric["gated"].boolean() and not _is_share(metric)
    }


def _verdicts(test: Reader) -> dict[str, OwnVerdict]:
    return {
        metric["name"].text(): OwnVerdict(
            kind=metric["verdict"].text(),
            text=" ".join((metric["explanation"].optional_text() or "").split()),
            limit=None if metric["limit"].is_null() else metric["limit"].positive(),
            tolerance=metric["tolerance"].positive(),
        )
        for metric in _metrics(test)
        if not metric["verdict"].is_null()
    }


def _tolerance(item: Reader) -> float:
    tolerance = item.positive()
    if tolerance >= 1:
        raise item.wrong("a share above 0 and below 1")
    return tolerance
