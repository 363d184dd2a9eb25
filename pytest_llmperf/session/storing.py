"""Stores a session's samples as a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from pytest_llmperf.baselines.record import (
    BaselineRecord,
    Loaded,
    MetricRecord,
    Provenance,
    RecordedSession,
    TestRecord,
    now,
)
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.samples import CANDIDATE, TestSamples
from pytest_llmperf.metrics import METRICS, get_metric
from pytest_llmperf.session.fitness_entries import (
    FitnessEntry,
    fitness_entries_of,
    machine_lines,
    session_entries,
)
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.session_gate import unfit, why_disturbed
from pytest_llmperf.session.trial import Trial
from pytest_llmperf.text import plural


def store_session(trial: Trial, provenance: Provenance, accepted: str | None = None) -> Path:
    """Store the samples of this session's own side as a baseline and return the file.

    Args:
        trial: the session's own trial.
        provenance: provenance of the code under test.
        accepted: why its level is the new baseline from now on, or None.

    Raises:
        BaselineError: it could not be written.
    """
    facts, plan = trial.facts, trial.plan
    findings = _findings(trial)
    record = BaselineRecord(
        recorded=now(),
        provenance=provenance,
        model=facts.model,
        config=facts.config,
        machine=facts.machine,
        session=RecordedSession(
            seed=plan.seed,
            processes=plan.processes,
            iterations=plan.perf.iterations,
            findings=machine_lines(findings),
            calibration=facts.calibration,
            fitness={entry.name: entry.severity for entry in findings},
        ),
        loaded=_loaded(trial, [test for test in trial.tests if test.cell is None]),
        tests={test.nodeid: _test(test, trial, accepted) for test in trial.tests},
    )
    return facts.store.write(record)


def _loaded(trial: Trial, tests: Sequence[RecordedTest]) -> Loaded | None:
    """Return what the engine that measured these tests, or else ran their bodies, had loaded."""
    infos = [trial.measurement.tests[test.nodeid].loaded.get(CANDIDATE) for test in tests]
    measured = [info for info in infos if info is not None]
    if measured:
        return Loaded.of(measured[-1])
    return trial.facts.for_test(tests[-1]).loaded if tests else None


def _findings(trial: Trial) -> tuple[FitnessEntry, ...]:
    """Return the findings on the stored processes and their configuration.

    Those of the base side are left out, because its samples are not stored.
    """
    by_test = {}
    for test in trial.tests:
        own = trial.measurement.tests[test.nodeid].of_this_session().of_side(CANDIDATE)
        configured = [e for e in trial.fitness[test.nodeid] if e.origin == "configuration"]
        by_test[test.nodeid] = (*fitness_entries_of(own), *configured)
    return session_entries(by_test)


def _test(test: RecordedTest, trial: Trial, accepted: str | None) -> TestRecord:
    samples, planned = trial.measurement.tests[test.nodeid], trial.plan.processes
    names = dict.fromkeys([*METRICS, *(check.metric.name for check in test.checks)])
    earlier, samples = samples.earlier, samples.of_this_session()
    invalid = unfit(samples, trial.plan) or _disturbed(samples, planned)
    samples = samples.undisturbed()
    invalid = invalid or _unfinished(samples, trial.plan, earlier)
    if samples.error is not None:
        invalid = (samples.error.splitlines()[0], *invalid)
    return TestRecord(
        workload=test.workload.hash,
        summary=test.workload.summary,
        metrics=stored_metrics(samples, names),
        invalid=invalid,
        accepted=accepted,
        requests=test.workload.digests,
        settings={} if test.cell is None else test.cell.stored_settings(trial.facts.config),
        loaded=None if test.cell is None else _loaded(trial, [test]),
        tolerances=trial.facts.tolerances.get(test.nodeid, {}),
    )


def stored_metrics(samples: TestSamples, names: Iterable[str]) -> dict[str, MetricRecord]:
    """Return the stored form of each metric that has a value.

    Metrics with impossible samples are left out: the verdict reports them, and they are of no use
    to a later session.
    """
    return {
        metric.name: MetricRecord(metric.unit.value, rows)
        for metric in map(get_metric, names)
        if (rows := samples.values(metric.name)) and all(map(metric.allows, chain(*rows)))
    }


def _disturbed(samples: TestSamples, planned: int) -> tuple[str, ...]:
    text = why_disturbed(samples, planned)
    return (f"only the difference to the other side counts: {text}",) if text else ()


def _unfinished(samples: TestSamples, plan: Plan, earlier: int) -> tuple[str, ...]:
    """Return why a test has too few samples to represent a session; empty if it has enough."""
    done = sum(sample.side == CANDIDATE for sample in samples.processes)
    if done >= plan.processes:
        return ()
    units = plural(plan.unit.name)
    if earlier:
        measured = f"{done} {units} were measured"
        return (f"decided by {earlier} pairs of earlier sessions; {measured}",)
    measured = f"{done} of {plan.processes} {units} were measured"
    return (f"{measured} before the time budget ended",)
