"""The judge stage: samples and baselines become evidence, evidence becomes verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_llmperf.baselines.evidence import evidence_for
from pytest_llmperf.baselines.match import notes as differences_from
from pytest_llmperf.baselines.record import (
    BaselineRecord,
    MetricRecord,
    TestRecord,
    now,
)
from pytest_llmperf.baselines.record import (
    SessionFacts as RecordedFacts,
)
from pytest_llmperf.baselines.store import StoredRecord
from pytest_llmperf.environment.machine import Difference
from pytest_llmperf.gate.check import BaselineView, Check, Evidence
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import Measurement, TestSamples
from pytest_llmperf.metrics import METRICS
from pytest_llmperf.plugin.facts import SessionFacts
from pytest_llmperf.plugin.recording import Recording
from pytest_llmperf.report.model import MetricRow, SessionView, TestReportView, row_of
from pytest_llmperf.stats.summary import stalls


@dataclass(frozen=True)
class Judgement:
    """What a session came to, as every renderer needs it."""

    view: SessionView

    def recorded_to(self, path: Path) -> Judgement:
        """Return the same with the file this session was recorded in."""
        return Judgement(replace(self.view, recorded_to=str(path)))


def judge_session(
    held: Sequence[Recording], measurement: Measurement, plan: Plan, facts: SessionFacts
) -> Judgement:
    """Give every gated metric of every measured test its verdict."""
    tests = tuple(
        _judge_test(recording, measurement.tests[recording.item.nodeid], plan, facts)
        for recording in held
    )
    sources = {source for test in tests for row in test.rows for source in row.baseline_sources}
    view = SessionView(
        machine_key=facts.machine.key,
        model=_model(facts),
        engine=f"{facts.info.engine} {facts.info.engine_version}",
        processes=plan.processes,
        iterations=plan.iterations,
        seed=plan.seed,
        tests=tests,
        busy=_busy(measurement),
        notes=(*facts.notes, *_baseline_notes(facts), *_gpu_notes(facts)),
        wall_s=measurement.seconds,
        generation_s=measurement.generating_seconds,
        recording_generation_s=sum(recording.seconds for recording in held),
        baseline_sources=tuple(sorted(sources)),
    )
    return Judgement(view)


def record_session(
    held: Sequence[Recording],
    measurement: Measurement,
    view: SessionView,
    facts: SessionFacts,
    accepted: str | None = None,
) -> Path:
    """Store this session's samples as a baseline and return the file.

    ``accepted`` is why its level is the new one from now on, or None.

    Raises:
        BaselineError: it could not be written.
    """
    tests = {}
    for recording in held:
        nodeid = recording.item.nodeid
        samples = measurement.tests[nodeid]
        metrics = {
            name: MetricRecord(metric.unit.value, samples.values(name))
            for name, metric in METRICS.items()
            if samples.values(name)
        }
        invalid = _invalid(samples, view.processes)
        if samples.error is not None:
            invalid = (samples.error.splitlines()[0], *invalid)
        tests[nodeid] = TestRecord(
            workload=recording.workload.hash,
            summary=recording.workload.summary,
            metrics=metrics,
            invalid=invalid,
            accepted=accepted,
        )
    record = BaselineRecord(
        recorded=now(),
        provenance=facts.provenance,
        model=facts.model,
        config=facts.config,
        machine=facts.machine,
        session=RecordedFacts(
            seed=view.seed,
            processes=view.processes,
            iterations=view.iterations,
            findings=view.busy,
        ),
        tests=tests,
    )
    return facts.store.write(record)


def _judge_test(
    recording: Recording, samples: TestSamples, plan: Plan, facts: SessionFacts
) -> TestReportView:
    nodeid, workload = recording.item.nodeid, recording.workload
    rows = []
    for check in recording.checks:
        evidence = Evidence(
            nodeid=nodeid,
            check=check,
            samples=samples.values(check.metric.name),
            planned_processes=plan.processes,
            baseline=_baseline(nodeid, workload.hash, check, facts),
            invalid=_invalid(samples, plan.processes),
            error=samples.error or _undefined(samples, check),
            budget_reached=samples.budget_reached,
            budget_s=plan.budget,
        )
        if check.gated:
            rows.append(row_of(evidence, judge(evidence)))
        elif evidence.samples:
            rows.append(row_of(evidence))
    return TestReportView(
        nodeid=nodeid,
        rows=tuple(rows),
        workload=workload.summary,
        workload_hash=workload.hash,
        findings=tuple(_findings(samples)),
        differences=_differences(rows, facts),
    )


def _undefined(samples: TestSamples, check: Check) -> str | None:
    """Say why a gated metric has no value although the test was measured."""
    metric = check.metric
    if samples.processes and not samples.values(metric.name):
        return (
            f"{metric.name} is undefined for this workload ({metric.formula}); ask for more output "
            "tokens, or take the marker away"
        )
    return None


def _baseline(nodeid: str, workload: str, check: Check, facts: SessionFacts) -> BaselineView:
    records = facts.baselines.records
    found = evidence_for(records, nodeid, workload, check.metric.name)
    by_path = {stored.path: stored for stored in records}
    return BaselineView(
        status=found.status,
        sessions=found.sessions,
        sources=tuple(_source(by_path[path], facts) for path in found.paths),
        detail=found.detail or _why_none(facts),
    )


def _source(stored: StoredRecord, facts: SessionFacts) -> str:
    """Name a stored session by its file, which names date and commit."""
    try:
        return str(stored.path.relative_to(facts.store.root.parent))
    except ValueError:
        return str(stored.path)


def _why_none(facts: SessionFacts) -> str:
    refused = facts.baselines.refused
    if refused:
        return f"{refused[-1].path.name} does not match: {_listed(refused[-1].differences)}"
    near = facts.baselines.near
    if near is not None:
        return f"the nearest is {near.key}: {_listed(near.differences)}"
    return ""


def _listed(differences: Iterable[Difference]) -> str:
    return "; ".join(_difference(difference) for difference in differences)


def _difference(difference: Difference) -> str:
    return f"{difference.item}: {difference.baseline} there, {difference.current} here"


def _baseline_notes(facts: SessionFacts) -> list[str]:
    notes = [
        f"baseline {refused.path.name} refused: {_listed(refused.differences)}"
        for refused in facts.baselines.refused
    ]
    near = facts.baselines.near
    if near is not None and not facts.baselines.records:
        notes.append(
            f"this machine has no baseline; the nearest is {near.key}: {_listed(near.differences)}"
        )
    return notes


def _gpu_notes(facts: SessionFacts) -> list[str]:
    gpu = facts.info.gpu
    if gpu is None or (facts.provenance.backend == "cpu" and gpu.layers_on_gpu == 0):
        return []
    return [str(gpu)]


def _invalid(samples: TestSamples, planned: int) -> tuple[str, ...]:
    """Return why the machine or the replays were unfit, if too few valid processes are left."""
    if len(samples.processes) >= planned or not samples.voided:
        return ()
    return tuple(dict.fromkeys(sample.void or "" for sample in samples.voided))


def _findings(samples: TestSamples) -> list[str]:
    found = []
    if samples.processes:
        count = stalls(samples.values("end_to_end"))
        if count:
            found.append(
                f"{count} stalled iteration{'s' if count != 1 else ''} "
                "(over 1.25 times their process's median; kept, the median absorbs them)"
            )
    if samples.voided and len(samples.processes) > 0:
        count = len(samples.voided)
        found.append(
            f"{count} process{'es' if count != 1 else ''} left out as invalid: "
            f"{samples.voided[0].void}"
        )
    return found


def _differences(rows: Sequence[MetricRow], facts: SessionFacts) -> tuple[str, ...]:
    """Return what differs from the newest baseline session besides speed."""
    if not any(row.baseline_sessions for row in rows):
        return ()
    newest = facts.baselines.records[-1]
    found = differences_from(newest, facts.machine, facts.provenance, facts.config)
    return tuple(f"{d.item}: {d.baseline} → {d.current}" for d in found)


def _busy(measurement: Measurement) -> tuple[str, ...]:
    """Return what else used the machine, the worst of each kind once."""
    worst: dict[str, tuple[int, str]] = {}
    rank = {"note": 0, "warn": 1, "invalid": 2}
    for samples in measurement.tests.values():
        for sample in (*samples.processes, *samples.voided):
            for finding in sample.findings:
                entry = (rank[finding.severity], finding.text)
                if finding.severity != "note" and entry > worst.get(finding.name, (0, "")):
                    worst[finding.name] = entry
    return tuple(text for _, text in worst.values())


def _model(facts: SessionFacts) -> str:
    info = facts.info
    if info.quantization and info.quantization not in info.model_name:
        return f"{info.model_name} {info.quantization}"
    return info.model_name
