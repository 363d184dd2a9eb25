"""Stored sessions of ``--llmperf-record`` as sessions to show, with medians but no verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.record import from_json
from pytest_llmperf.gate.numbers import share_summary
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.metrics import known_metric
from pytest_llmperf.report.reported import (
    ReportedProvenance,
    ReportedSession,
    ReportedWorkload,
    ShownFacts,
    ShownTest,
)
from pytest_llmperf.report.reported_checks import ShownMetric
from pytest_llmperf.stats.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.baselines.record import TestRecord


def session_of_record(data: Any) -> ReportedSession:
    """Check parsed JSON of a record, and summarise its samples.

    Metrics whose packages are not installed are left out and named in the notes.

    Raises:
        ShapeError: an item is missing or wrong; the message names it.
    """
    record = from_json(data)
    unknown = sorted({name for test in record.tests.values() for name in _unknown(test)})
    model, provenance = record.model, record.provenance
    named = model.quantization is None or model.quantization in model.name
    facts = ShownFacts(
        machine=record.machine.key,
        model=model.name if named else f"{model.name} {model.quantization}",
        engine=f"{provenance.engine} {provenance.engine_version}",
        processes=record.session.processes,
        iterations=record.session.iterations,
        wall_s=0.0,
        busy=record.session.findings,
        notes=tuple(f"{name} is left out: its package is not installed" for name in unknown),
        baselines=(),
        against=None,
        base_commit=None,
        side_differences=(),
        false_alarms=None,
        provenance=ReportedProvenance(provenance.commit, provenance.dirty),
    )
    tests = tuple(_test(nodeid, test) for nodeid, test in record.tests.items())
    return ReportedSession(facts, tests, is_record=True)


def _unknown(test: TestRecord) -> Iterator[str]:
    return (name for name in test.metrics if known_metric(name) is None)


def _test(nodeid: str, test: TestRecord) -> ShownTest:
    return ShownTest(
        nodeid=nodeid,
        # A test that the record calls invalid was not judged, either.
        verdict=VerdictKind.INVALID if test.invalid else None,
        workload=ReportedWorkload(test.summary),
        processes=max((len(metric.samples) for metric in test.metrics.values()), default=0),
        pairs=0,
        against=None,
        findings=tuple(f"invalid: {reason}" for reason in test.invalid),
        differences=(),
        causes=(),
        metrics=tuple(_checks(test)),
    )


def _checks(test: TestRecord) -> Iterator[ShownMetric]:
    for name, recorded in test.metrics.items():
        metric = known_metric(name)
        if metric is None:
            continue
        if metric.kind == "share":
            summary = share_summary(recorded.samples)
        else:
            summary = summarise(recorded.samples, metric.resolution)
        yield ShownMetric(
            name=name,
            label=metric.label,
            unit=metric.unit,
            direction=metric.direction,
            limit=None,
            value=summary.value,
            low=summary.low,
            high=summary.high,
            verdict=None,
            explanation=None,
        )
