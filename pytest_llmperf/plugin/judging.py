"""The judge stage: what the session has to say, from the verdicts of its checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.environment.telemetry_summary import joined
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import BASE, CANDIDATE, TestSamples
from pytest_llmperf.plugin.against import Against
from pytest_llmperf.plugin.configured import (
    causes_of,
    configured_findings,
    differences_of,
)
from pytest_llmperf.plugin.evidence import Judged, SessionGate, listed_differences
from pytest_llmperf.plugin.facts import SessionFacts
from pytest_llmperf.plugin.recording import Recording
from pytest_llmperf.plugin.trial import Trial
from pytest_llmperf.report.fitness import entries_of, machine_lines, session_entries
from pytest_llmperf.report.model import SessionView, TestReportView, row_of
from pytest_llmperf.report.roofline import roofline_lines
from pytest_llmperf.stats.paired import least_to_call
from pytest_llmperf.stats.summary import stalls


def session_view(trial: Trial, facts: SessionFacts) -> SessionView:
    """Give every gated metric of every measured test its verdict."""
    gate, held, plan, against = trial.gate, trial.held, trial.plan, trial.against
    measurement = trial.measurement
    judged = gate.judge(measurement.tests)
    by_test = {
        nodeid: list(same) for nodeid, same in groupby(judged, lambda one: one.evidence.nodeid)
    }
    tests = tuple(
        _test(
            recording,
            by_test.get(recording.item.nodeid, []),
            measurement.tests[recording.item.nodeid],
            gate,
            facts,
            against,
            measurement.loaded,
        )
        for recording in held
    )
    fitness = session_entries({test.nodeid: test.fitness for test in tests})
    sources = {source for test in tests for row in test.rows for source in row.baseline_sources}
    return SessionView(
        machine_key=facts.machine.key,
        model=_model(facts),
        engine=f"{facts.info.engine} {facts.info.engine_version}",
        processes=plan.processes,
        iterations=plan.iterations,
        seed=plan.seed,
        tests=tests,
        busy=machine_lines(fitness),
        fitness=fitness,
        notes=(
            *facts.notes,
            *_baseline_notes(facts, against),
            *_gpu_notes(facts),
            *_pair_notes(plan),
            *(against.notes if against is not None else ()),
            *(facts.telemetry.notes if facts.telemetry is not None else ()),
        ),
        gpus=facts.telemetry.facts if facts.telemetry is not None else (),
        wall_s=measurement.seconds,
        generation_s=measurement.generating_seconds,
        recording_generation_s=sum(recording.seconds for recording in held),
        baseline_sources=tuple(sorted(sources)),
        against=against.name if against is not None else None,
        base_commit=against.commit if against is not None else None,
        arm_differences=against.differences if against is not None else (),
    )


def _test(
    recording: Recording,
    judged: Sequence[Judged],
    samples: TestSamples,
    gate: SessionGate,
    facts: SessionFacts,
    against: Against | None,
    loaded: Mapping[str, EngineInfo],
) -> TestReportView:
    stored = [gate.stored(recording, one.evidence.check) for one in judged if against is None]
    newest = max(
        (path for found in stored for path in found.paths), default=None, key=_place(facts)
    )
    rows = tuple(
        row_of(one.evidence, one.verdict)
        for one in judged
        if one.evidence.check.gated or one.evidence.samples
    )
    roofline = facts.roofline.view(facts.info, recording.workload, rows)
    skipped = max((found.skipped_invalid for found in stored), default=0)
    baseline = next((one for one in facts.baselines.records if one.path == newest), None)
    configured = configured_findings(facts, baseline, against, loaded)
    causes = causes_of([one.verdict for one in judged if one.verdict], configured)
    return TestReportView(
        nodeid=recording.item.nodeid,
        rows=rows,
        workload=recording.workload.summary,
        workload_hash=recording.workload.hash,
        requests=recording.workload.digests,
        findings=(*_findings(samples), *_left_out(skipped), *roofline_lines(roofline)),
        differences=differences_of(facts, baseline, against, configured),
        fitness=entries_of(samples, configured),
        causes=causes,
        pairs=samples.pairs,
        earlier_pairs=samples.earlier,
        culprit=against.culprit if against is not None else "",
        bisect_from=against.bisect_from if against is not None else None,
        processes=sum(sample.arm == CANDIDATE for sample in samples.processes),
        telemetry=joined(
            [
                s.telemetry
                for s in samples.processes or samples.voided
                if s.telemetry and s.arm == CANDIDATE
            ]
        ),
        roofline=roofline,
    )


def _place(facts: SessionFacts) -> Callable[[Path], int]:
    """Return a key that orders baseline files as their sessions were recorded."""
    places = {stored.path: place for place, stored in enumerate(facts.baselines.records)}
    return lambda path: places[path]


def _baseline_notes(facts: SessionFacts, against: Against | None) -> list[str]:
    if against is not None:
        return []
    if facts.baselines.other_backend:
        key = facts.baselines.records[-1].record.machine.key
        return [f"judged by the baseline of {key}: the same hardware with another backend"]
    if facts.baselines.records:
        return []
    notes = [
        f"baseline {refused.path.name} refused: {listed_differences(refused.differences)}"
        for refused in facts.baselines.refused[-3:]
    ]
    near = facts.baselines.near
    if near is not None:
        notes.append(
            f"this machine has no baseline; the nearest is {near.key}: "
            f"{listed_differences(near.differences)}"
        )
    return notes


def _pair_notes(plan: Plan) -> list[str]:
    if not plan.paired or plan.most >= least_to_call():
        return []
    return [
        f"perf.max_pairs is {plan.most}: a slowdown is called from {least_to_call()} pairs on, "
        "so this session can call none"
    ]


def _gpu_notes(facts: SessionFacts) -> list[str]:
    gpu = facts.info.gpu
    if gpu is None or (facts.provenance.backend == "cpu" and gpu.layers_on_gpu == 0):
        return []
    return [str(gpu)]


def _findings(samples: TestSamples) -> list[str]:
    found = []
    count = sum(
        stalls(rows)
        for arm in (CANDIDATE, BASE)
        if (rows := tuple(s.row("end_to_end") for s in samples.processes if s.arm == arm))
    )
    if count:
        found.append(
            f"{count} stalled iteration{'s' if count != 1 else ''} "
            "(over 1.25 times their process's median; kept, the median absorbs them)"
        )
    if samples.voided and samples.processes:
        count = len(samples.voided)
        found.append(
            f"{count} process{'es' if count != 1 else ''} left out as invalid: "
            f"{samples.voided[0].void}"
        )
    # What the configuration lets count all the same.
    found += [
        f"in {len(entry.processes)} process{'es' if len(entry.processes) != 1 else ''}: {entry}"
        for entry in entries_of(samples)
        if entry.doing == "measurement" and entry.severity == "warn"
    ]
    return found


def _left_out(sessions: int) -> list[str]:
    if not sessions:
        return []
    plural = "s" if sessions != 1 else ""
    return [f"{sessions} stored session{plural} left out: the machine was not fit then"]


def _model(facts: SessionFacts) -> str:
    info = facts.info
    if info.quantization and info.quantization not in info.model_name:
        return f"{info.model_name} {info.quantization}"
    return info.model_name
