"""The judge stage: samples and baselines become evidence, evidence becomes verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pytest_llmperf.baselines.evidence import BaselineEvidence, evidence_for
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
from pytest_llmperf.report.model import SessionView, TestReportView, row_of
from pytest_llmperf.stats.summary import stalls


def judge_session(
    held: Sequence[Recording], measurement: Measurement, plan: Plan, facts: SessionFacts
) -> SessionView:
    """Give every gated metric of every measured test its verdict."""
    tests = tuple(
        _judge_test(recording, measurement.tests[recording.item.nodeid], plan, facts)
        for recording in held
    )
    sources = {source for test in tests for row in test.rows for source in row.baseline_sources}
    return SessionView(
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
        invalid = _invalid(samples, view.processes) or _unfinished(samples, view.processes)
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
    newest: Path | None = None
    skipped = 0
    for check in recording.checks:
        if not check.asked and samples.processes and not samples.values(check.metric.name):
            # A default that this workload does not define: one output token has no decode rate.
            continue
        found = _stored(nodeid, workload.hash, check, facts)
        skipped = max(skipped, found.skipped_invalid)
        newest = max(filter(None, (newest, *found.paths)), default=None, key=_place(facts))
        evidence = Evidence(
            nodeid=nodeid,
            check=check,
            samples=samples.values(check.metric.name),
            planned_processes=plan.processes,
            baseline=_baseline(found, facts),
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
        findings=(*_findings(samples), *_left_out(skipped)),
        differences=_differences(newest, facts),
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


def _stored(nodeid: str, workload: str, check: Check, facts: SessionFacts) -> BaselineEvidence:
    return evidence_for(facts.baselines.records, nodeid, workload, check.metric.name)


def _place(facts: SessionFacts) -> Callable[[Path], int]:
    """Return a key that orders baseline files as their sessions were recorded."""
    places = {stored.path: place for place, stored in enumerate(facts.baselines.records)}
    return lambda path: places[path]


def _baseline(found: BaselineEvidence, facts: SessionFacts) -> BaselineView:
    by_path = {stored.path: stored for stored in facts.baselines.records}
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
    if facts.baselines.records:
        return []
    notes = [
        f"baseline {refused.path.name} refused: {_listed(refused.differences)}"
        for refused in facts.baselines.refused[-3:]
    ]
    near = facts.baselines.near
    if near is not None:
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


def _unfinished(samples: TestSamples, planned: int) -> tuple[str, ...]:
    """Say why a test that the time budget cut short may not stand for a session."""
    done = len(samples.processes)
    if done >= planned:
        return ()
    return (f"{done} of {planned} processes were measured before the time budget ended",)


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


def _left_out(sessions: int) -> list[str]:
    if not sessions:
        return []
    plural = "s" if sessions != 1 else ""
    return [f"{sessions} stored session{plural} left out: the machine was not fit then"]


def _differences(newest: Path | None, facts: SessionFacts) -> tuple[str, ...]:
    """Return what differs, besides speed, from the newest session that judged the test."""
    stored = next((one for one in facts.baselines.records if one.path == newest), None)
    if stored is None:
        return ()
    found = differences_from(stored, facts.machine, facts.provenance, facts.config)
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
