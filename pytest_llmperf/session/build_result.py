"""Builds a session's result from its trials, their confirmation and visible causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.record import now
from pytest_llmperf.fitness_checks import disturbs
from pytest_llmperf.gate.words import count, listed
from pytest_llmperf.machine.gpu.summary import joined
from pytest_llmperf.measure.replication import BLOCK
from pytest_llmperf.measure.samples import CANDIDATE, ProcessSample, TestSamples
from pytest_llmperf.session.base_side import BaseSide
from pytest_llmperf.session.causes import Explainer, differences_of, doctor_command, explanations_of
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.fitness_entries import (
    fitness_entries_of,
    machine_lines,
    merged_sessions,
    session_entries,
)
from pytest_llmperf.session.measuring import pair_notes
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.result import SessionResult, TestResult
from pytest_llmperf.session.roofline import roofline_lines
from pytest_llmperf.session.server_lines import server_lines
from pytest_llmperf.session.session_gate import differences_line
from pytest_llmperf.session.shown_load import shown_load
from pytest_llmperf.session.shown_timelines import shown_timelines
from pytest_llmperf.session.warming_up import too_few_blocks_note

if TYPE_CHECKING:
    from pytest_llmperf.measure.plan import Plan
    from pytest_llmperf.session.confirmation import SuspectConfirmation
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.quality import TestQuality
    from pytest_llmperf.session.trial import Trial


_INTERRUPTED = "the session was interrupted: verdicts are those of what was measured until then"


def session_result(
    context: SessionContext,
    trial: Trial,
    confirmation: SuspectConfirmation,
    *,
    recorded_to: str | None = None,
    problems: Sequence[str] = (),
    explainer: Explainer | None = None,
    quality: Mapping[str, TestQuality] | None = None,
    interrupted: bool = False,
) -> SessionResult:
    """Return the session's result so far.

    Args:
        context: the session's context.
        trial: the session's own trial.
        confirmation: results of running suspects against the commit of their baseline.
        recorded_to: the file it was stored in, or None.
        problems: what could not be stored, one line each.
        explainer: finds causes of tests that are too slow; None skips that.
        quality: quality of the tests that have limits for it, by node id.
        interrupted: whether the user ended the session.
    """
    facts, plan, base, measured = trial.facts, trial.plan, trial.base, trial.measurement
    tests = tuple(
        _with_quality(
            _test(context, trial, test, confirmation, explainer), (quality or {}).get(test.nodeid)
        )
        for test in trial.tests
    )
    fitness = merged_sessions(session_entries(t.fitness) for t in (trial, *confirmation.trials))
    also = [confirming.measurement for confirming in confirmation.trials]
    # From the first judgement, because a confirmed test's result rests on pairs.
    first = [row for rows in trial.checks.values() for row in rows]
    sources = {source for row in first for source in row.baseline_sources}
    waited = context.wait.summary()
    telemetry = facts.watch.telemetry
    return SessionResult(
        machine_key=facts.machine.key,
        model=facts.model.label,
        engine=f"{facts.info.engine} {facts.info.engine_version}",
        processes=plan.processes,
        unit=plan.unit.name,
        iterations=plan.perf.iterations,
        seed=plan.seed,
        tests=tests,
        busy=machine_lines(fitness),
        fitness=fitness,
        interrupted=interrupted,
        notes=(
            *([_INTERRUPTED] if interrupted else []),
            *facts.notes,
            *_baseline_notes(facts, base),
            *_gpu_notes(facts),
            *pair_notes(plan),
            *trial.gate.unjudged_targets(measured.tests),
            *(base.notes if base is not None else ()),
            *(telemetry.notes if telemetry is not None else ()),
            *([waited] if waited else ()),
            *(explainer.problems if explainer is not None else ()),
        ),
        gpus=telemetry.facts if telemetry is not None else (),
        wall_seconds=sum(m.seconds for m in (measured, *also)) + confirmation.prepared_seconds,
        generation_seconds=sum(m.generating_seconds for m in (measured, *also)),
        recording_generation_seconds=sum(test.seconds for test in trial.tests),
        baseline_sources=tuple(sorted(sources)),
        recorded_to=recorded_to,
        problems=tuple(problems),
        against=base.name if base is not None else None,
        base_commit=base.commit if base is not None else None,
        side_differences=base.differences if base is not None else (),
        false_alarms=context.setup.perf.false_alarms,
        strict=context.strict,
        waited_seconds=context.wait.seconds,
        measured_at=now(),
        provenance=facts.provenance,
        model_file=facts.model,
        config=facts.config,
        machine_facts={**facts.machine.strict, **facts.machine.info},
    )


def _test(
    context: SessionContext,
    trial: Trial,
    test: RecordedTest,
    confirmation: SuspectConfirmation,
    explainer: Explainer | None,
) -> TestResult:
    """Return a test's result from the trial that decides on it."""
    nodeid = test.nodeid
    confirmed = confirmation.confirmed.get(nodeid)
    trial = confirmed or confirmation.rejudged or trial
    remarks = [confirmation.remarks[nodeid]] if nodeid in confirmation.remarks else []
    facts, base, cell = trial.facts.for_test(test), trial.base_of(test), test.cell
    checks, samples = trial.checks[nodeid], trial.measurement.tests[nodeid]
    baseline, skipped = trial.baselines[nodeid]
    rows = tuple(row for row in checks if row.check.gated or row.evidence.samples)
    roofline = facts.roofline.share(facts.info, test.workload, rows)
    configured = trial.configured[nodeid]
    load = shown_load(test.workload.load, samples.processes)
    own = [s for s in samples.processes if s.side == CANDIDATE]
    server = () if load else server_lines([s.use for s in own if s.use is not None])
    findings = [
        *(load.lines if load is not None else server),
        *_findings(samples, trial.plan.unit.name),
        *_unchecked(trial.plan, samples),
        *_left_out(skipped),
        *roofline_lines(roofline),
    ]
    watched = own or [s for s in samples.voided if s.side == CANDIDATE and not samples.processes]
    setup = context.setup if cell is None else cell.setup
    diagnosis = explainer.explain(trial, test) if explainer is not None else ()
    return TestResult(
        nodeid=nodeid,
        rows=rows,
        workload=test.workload.summary,
        workload_hash=test.workload.hash,
        requests=test.workload.digests,
        settings=cell.settings if cell is not None else {},
        sweep=cell.sweep if cell is not None else "",
        # The reason for the deciding trial comes first.
        findings=(*remarks, *findings) if confirmed is not None else (*findings, *remarks),
        differences=differences_of(facts, nodeid, baseline, base, configured),
        fitness=trial.fitness[nodeid],
        causes=explanations_of([row.verdict for row in checks if row.verdict], configured),
        pairs=samples.pairs,
        earlier_pairs=samples.earlier,
        culprit=base.culprit if base is not None else "",
        bisect_from=base.bisect_from if base is not None else None,
        is_confirmed=confirmed is not None,
        processes=len(own),
        telemetry=joined([s.telemetry for s in watched if s.telemetry]),
        roofline=roofline,
        diagnosis=diagnosis,
        doctor_command=doctor_command(setup, test.workload) if diagnosis else "",
        timelines=shown_timelines(samples),
        location=test.location,
        load=load,
        server=server,
    )


def _with_quality(test: TestResult, quality: TestQuality | None) -> TestResult:
    if quality is None:
        return test
    return replace(
        test,
        quality_rows=quality.rows,
        quality=quality.result,
        findings=(*test.findings, *quality.lines),
    )


def _findings(samples: TestSamples, unit: str) -> list[str]:
    """Return findings on a test's samples; ``unit``: the noun for what a sample comes from."""
    lines = []
    stalled = sum(samples.stalls())
    if stalled:
        effect = "kept, the median absorbs them"
        if any(sample.turns for sample in samples.processes):
            effect = "these count for little unless one side alone has them"
        lines.append(
            f"{count(stalled, 'stalled iteration')} (over 1.25 times their {unit}'s median; "
            f"{effect})"
        )
    if samples.voided and samples.processes:
        left_out = count(len(samples.voided), unit)
        lines.append(f"{left_out} left out as invalid: {_why_void(samples.voided[0])}")
    # Gaps in the measurement, and findings that the configuration lets count anyway.
    lines += [
        f"in {count(len(entry.processes), unit)}: {entry}"
        for entry in fitness_entries_of(samples)
        if entry.origin == "measurement" and entry.severity == "warn"
    ]
    return lines


def _unchecked(plan: Plan, samples: TestSamples) -> list[str]:
    """Return a note if too few blocks check for a warm-up; the sides of a pair warm up alike."""
    if plan.unit is not BLOCK or samples.pairs or samples.error:
        return []
    text = too_few_blocks_note(len(samples.processes))
    return [text] if text else []


def _why_void(sample: ProcessSample) -> str:
    """Return why a sample does not count; the session lists the details of disturbances once."""
    void = sample.void or ""
    named = [
        finding.name
        for finding in sample.findings
        if disturbs(finding.name, finding.severity) and void.endswith(f"({finding.name})")
    ]
    return f"the machine was disturbed ({listed(named)})" if named else void


def _left_out(sessions: int) -> list[str]:
    if not sessions:
        return []
    return [f"{count(sessions, 'stored session')} left out: the machine was disturbed"]


def _baseline_notes(facts: SessionFacts, base: BaseSide | None) -> list[str]:
    if base is not None:
        return []
    if facts.baselines.other_backend:
        key = facts.baselines.records[-1].record.machine.key
        return [f"judged by the baseline of {key}: the same hardware with another backend"]
    if facts.baselines.records:
        return []
    notes = [
        f"baseline {mismatched.path.name} refused: {differences_line(mismatched.differences)}"
        for mismatched in facts.baselines.mismatched[-3:]
    ]
    nearest = facts.baselines.nearest
    if nearest is not None:
        notes.append(
            f"this machine has no baseline; the nearest is {nearest.key}: "
            f"{differences_line(nearest.differences)}"
        )
    return notes


def _gpu_notes(facts: SessionFacts) -> list[str]:
    gpu = facts.info.gpu
    if gpu is None or (facts.provenance.backend == "cpu" and gpu.layers_on_gpu == 0):
        return []
    return [str(gpu)]
