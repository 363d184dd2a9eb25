"""Builds the result of one test from the trial that decides on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.machine.gpu.summary import joined
from pytest_llmperf.measure.samples import BASE, CANDIDATE, TestSamples
from pytest_llmperf.session.configured import differences_of, explanations_of
from pytest_llmperf.session.explaining import Explanation
from pytest_llmperf.session.fitness_entries import fitness_entries_of
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.result import TestResult
from pytest_llmperf.session.roofline import roofline_lines
from pytest_llmperf.stats.summary import stalls

if TYPE_CHECKING:
    from pytest_llmperf.session.trial import Trial


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
    baseline, skipped = trial.baselines[test.nodeid]
    rows = tuple(one for one in checks if one.check.gated or one.evidence.samples)
    roofline = facts.roofline.share(facts.info, test.workload, rows)
    configured = trial.configured[test.nodeid]
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
        fitness=trial.fitness[test.nodeid],
        causes=explanations_of([one.verdict for one in checks if one.verdict], configured),
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
        for entry in fitness_entries_of(samples)
        if entry.doing == "measurement" and entry.severity == "warn"
    ]
    return found


def _left_out(sessions: int) -> list[str]:
    if not sessions:
        return []
    plural = "s" if sessions != 1 else ""
    return [f"{sessions} stored session{plural} left out: the machine was disturbed"]
