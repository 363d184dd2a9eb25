"""Builds the session's result from what was measured, confirmed, explained and stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.machine.gpu.summary import joined
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import BASE, CANDIDATE, TestSamples
from pytest_llmperf.session.base_side import BaseSide
from pytest_llmperf.session.configured import (
    causes_of,
    configured_findings,
    differences_of,
)
from pytest_llmperf.session.explaining import Explainer, Explanation
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.fitness_entries import (
    FitnessEntry,
    entries_of,
    machine_lines,
    merged_sessions,
    session_entries,
)
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.result import SessionResult, TestResult
from pytest_llmperf.session.roofline_share import roofline_lines
from pytest_llmperf.session.session_gate import listed_differences
from pytest_llmperf.stats.paired import least_to_call
from pytest_llmperf.stats.summary import stalls

if TYPE_CHECKING:
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.session.confirmation import Confirmation
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.trial import Trial


def session_result(
    context: SessionContext,
    trial: Trial,
    confirmation: Confirmation,
    *,
    recorded_to: str | None = None,
    explainer: Explainer | None = None,
) -> SessionResult:
    """Return what the session has to say so far.

    Args:
        context: of the session.
        trial: the measurement of its tests.
        confirmation: which of them were run against the commit of their baseline.
        recorded_to: the file it was stored in, or None.
        explainer: looks for causes of tests that are too slow; None looks for none.
    """
    facts, plan, base, measured = trial.facts, trial.plan, trial.base, trial.measurement
    tests = tuple(_test(trial, test, confirmation, explainer) for test in trial.tests)
    fitness = merged_sessions(map(trial_fitness, (trial, *confirmation.trials)))
    also = [one.measurement for one in confirmation.trials]
    sources = {source for test in tests for row in test.rows for source in row.baseline_sources}
    waited = context.wait.summary()
    telemetry = facts.telemetry
    return SessionResult(
        machine_key=facts.machine.key,
        model=_model(facts),
        engine=f"{facts.info.engine} {facts.info.engine_version}",
        processes=plan.processes,
        iterations=plan.perf.iterations,
        seed=plan.seed,
        tests=tests,
        busy=machine_lines(fitness),
        fitness=fitness,
        notes=(
            *facts.notes,
            *_baseline_notes(facts, base),
            *_gpu_notes(facts),
            *_pair_notes(plan),
            *(base.notes if base is not None else ()),
            *(telemetry.notes if telemetry is not None else ()),
            *([waited] if waited else ()),
            *(explainer.problems if explainer is not None else ()),
        ),
        gpus=telemetry.facts if telemetry is not None else (),
        wall_seconds=sum(one.seconds for one in (measured, *also)) + confirmation.prepared_seconds,
        generation_seconds=sum(one.generating_seconds for one in (measured, *also)),
        recording_generation_seconds=sum(test.seconds for test in trial.tests),
        baseline_sources=tuple(sorted(sources)),
        recorded_to=recorded_to,
        record_command=context.request.record_command,
        against=base.name if base is not None else None,
        base_commit=base.commit if base is not None else None,
        base_differences=base.differences if base is not None else (),
        false_alarms=context.setup.perf.false_alarms,
        strict=context.request.strict or context.setup.perf.strict,
        waited_seconds=context.wait.seconds,
    )


def result_of_test(
    trial: Trial,
    test: RecordedTest,
    *,
    remarks: tuple[str, ...] = (),
    is_confirmed: bool = False,
    explanation: Explanation | None = None,
) -> TestResult:
    """Return what a trial has to say of one of its tests.

    Args:
        trial: the measurement.
        test: which of its tests.
        remarks: what led to the trial, or why there was no other, one line each.
        is_confirmed: stored sessions made the test suspect, and the trial decides.
        explanation: why it may be slow; None where nobody looked.
    """
    facts, base = trial.facts, trial.base
    checks, samples = trial.checks[test.nodeid], trial.measurement.tests[test.nodeid]
    baseline, skipped = _newest_baseline(trial, test)
    rows = tuple(one for one in checks if one.check.gated or one.evidence.samples)
    roofline = facts.roofline.share(facts.info, test.workload, rows)
    configured = configured_of(trial, test)
    findings = (*_findings(samples), *_left_out(skipped), *roofline_lines(roofline))
    own = [s for s in samples.processes if s.side == CANDIDATE]
    watched = own or [s for s in samples.voided if s.side == CANDIDATE and not samples.processes]
    return TestResult(
        nodeid=test.nodeid,
        rows=rows,
        workload=test.workload.summary,
        workload_hash=test.workload.hash,
        requests=test.workload.digests,
        findings=(*remarks, *findings) if is_confirmed else (*findings, *remarks),
        differences=differences_of(facts, baseline, base, configured),
        fitness=entries_of(samples, configured),
        causes=causes_of([one.verdict for one in checks if one.verdict], configured),
        pairs=samples.pairs,
        earlier_pairs=samples.earlier,
        culprit=base.culprit if base is not None else "",
        bisect_from=base.bisect_from if base is not None else None,
        is_confirmed=is_confirmed,
        processes=len(own),
        telemetry=joined([s.telemetry for s in watched if s.telemetry]),
        roofline=roofline,
        diagnosis=explanation.causes if explanation is not None else (),
        doctor_command=explanation.command if explanation is not None else "",
    )


def configured_of(trial: Trial, test: RecordedTest) -> list[FitnessFinding]:
    """Return what is configured or built otherwise than what a test is compared with."""
    baseline, _ = _newest_baseline(trial, test)
    return configured_findings(trial.facts, baseline, trial.base, trial.measurement.loaded)


def trial_fitness(trial: Trial) -> tuple[FitnessEntry, ...]:
    """Return what was unfit in any test of a trial."""
    return session_entries(
        {
            test.nodeid: entries_of(
                trial.measurement.tests[test.nodeid], configured_of(trial, test)
            )
            for test in trial.tests
        }
    )


def _test(
    trial: Trial, test: RecordedTest, confirmation: Confirmation, explainer: Explainer | None
) -> TestResult:
    """Return what the trial that decides on a test has to say of it."""
    confirmed = confirmation.confirmed.get(test.nodeid)
    deciding = confirmed or trial
    if confirmed is None and confirmation.rejudged is not None:
        deciding = confirmation.rejudged
    remark = confirmation.remarks.get(test.nodeid)
    return result_of_test(
        deciding,
        test,
        remarks=() if remark is None else (remark,),
        is_confirmed=confirmed is not None,
        explanation=explainer.explain(deciding, test) if explainer is not None else None,
    )


def _newest_baseline(trial: Trial, test: RecordedTest) -> tuple[StoredRecord | None, int]:
    """Return the newest stored session that judges a test, and how many unfit ones do not."""
    if trial.base is not None:
        return None, 0
    stored = [trial.gate.stored(test, one.check) for one in trial.checks[test.nodeid]]
    records = trial.facts.baselines.records
    judging = {path for found in stored for path in found.paths}
    newest = next((one for one in reversed(records) if one.path in judging), None)
    return newest, max((found.skipped_invalid for found in stored), default=0)


def _baseline_notes(facts: SessionFacts, base: BaseSide | None) -> list[str]:
    if base is not None:
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
    pairs, enough = plan.max_processes, least_to_call()
    if not plan.paired or pairs >= enough:
        return []
    return [
        f"perf.max_pairs is {pairs}: a slowdown is called from {enough} pairs on, so this session "
        "can call none"
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
        for side in (CANDIDATE, BASE)
        if (rows := tuple(s.row("end_to_end") for s in samples.processes if s.side == side))
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
    # What the configuration lets count anyway.
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
