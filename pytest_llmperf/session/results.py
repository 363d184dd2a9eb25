"""Builds the session's result from its measurements, confirmations and explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.session.base_side import BaseSide
from pytest_llmperf.session.explaining import Explainer
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.fitness_entries import (
    machine_lines,
    merged_sessions,
    session_entries,
)
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.result import SessionResult, TestResult
from pytest_llmperf.session.results_of_tests import result_of_test
from pytest_llmperf.session.session_gate import differences_line
from pytest_llmperf.stats.paired import min_pairs_to_call

if TYPE_CHECKING:
    from pytest_llmperf.session.confirmation import Confirmation
    from pytest_llmperf.session.context import SessionContext
    from pytest_llmperf.session.trial import Trial


def session_result(
    context: SessionContext,
    trial: Trial,
    confirmation: Confirmation,
    *,
    recorded_to: str | None = None,
    problems: Sequence[str] = (),
    explainer: Explainer | None = None,
) -> SessionResult:
    """Return the session's result so far.

    Args:
        context: of the session.
        trial: the measurement of its tests.
        confirmation: which of them were run against the commit of their baseline.
        recorded_to: the file it was stored in, or None.
        problems: what could not be stored, one line each.
        explainer: looks for causes of tests that are too slow; None looks for none.
    """
    facts, plan, base, measured = trial.facts, trial.plan, trial.base, trial.measurement
    tests = tuple(_test(trial, test, confirmation, explainer) for test in trial.tests)
    fitness = merged_sessions(session_entries(one.fitness) for one in (trial, *confirmation.trials))
    also = [one.measurement for one in confirmation.trials]
    # Of the first judgement, too: a confirmed test's result rests on pairs.
    first = [row for rows in trial.checks.values() for row in rows]
    sources = {source for row in first for source in row.baseline_sources}
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
        problems=tuple(problems),
        against=base.name if base is not None else None,
        base_commit=base.commit if base is not None else None,
        side_differences=base.differences if base is not None else (),
        false_alarms=context.setup.perf.false_alarms,
        strict=context.strict,
        waited_seconds=context.wait.seconds,
    )


def _test(
    trial: Trial, test: RecordedTest, confirmation: Confirmation, explainer: Explainer | None
) -> TestResult:
    """Return a test's result from the trial that decides on it."""
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


def _baseline_notes(facts: SessionFacts, base: BaseSide | None) -> list[str]:
    if base is not None:
        return []
    if facts.baselines.other_backend:
        key = facts.baselines.records[-1].record.machine.key
        return [f"judged by the baseline of {key}: the same hardware with another backend"]
    if facts.baselines.records:
        return []
    notes = [
        f"baseline {refused.path.name} refused: {differences_line(refused.differences)}"
        for refused in facts.baselines.refused[-3:]
    ]
    near = facts.baselines.near
    if near is not None:
        notes.append(
            f"this machine has no baseline; the nearest is {near.key}: "
            f"{differences_line(near.differences)}"
        )
    return notes


def _pair_notes(plan: Plan) -> list[str]:
    pairs, enough = plan.max_processes, min_pairs_to_call()
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


def _model(facts: SessionFacts) -> str:
    info = facts.info
    if info.quantization and info.quantization not in info.model_name:
        return f"{info.model_name} {info.quantization}"
    return info.model_name
