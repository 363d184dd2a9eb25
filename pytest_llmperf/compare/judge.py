"""Judges the candidate's stored sessions against the base's, with the gate's own rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.samples import BaselineSamples, collect_baseline_samples
from pytest_llmperf.compare.notes import (
    engine_label,
    recorded_differences,
    side_notes,
    test_findings,
)
from pytest_llmperf.compare.pairing import (
    CandidateTest,
    base_samples,
    candidate_tests,
    newest_tests,
)
from pytest_llmperf.compare.reported_verdicts import with_reported_verdicts
from pytest_llmperf.compare.result import ComparisonResult
from pytest_llmperf.gate.check import Check, Evidence
from pytest_llmperf.gate.combine import judge_session
from pytest_llmperf.machine.fingerprint import relevant_differences
from pytest_llmperf.metrics import ALWAYS_SHOWN, DEFAULT_GATED, METRICS, Metric, known_metric
from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult
from pytest_llmperf.stats.summary import stalls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_llmperf.compare.pairing import SidePair


@dataclass(frozen=True)
class ComparisonRules:
    """Tolerance, error rate and metrics that a comparison judges by.

    Attributes:
        tolerance: slowdown that must be caught, a fraction.
        false_alarms: chance of any false ``regressed`` in the whole comparison.
        use_report_tolerances: use a report's own tolerances; False if the user gave one.
        use_calibrated_tolerances: use those that a calibration gave the candidate's session.
        metrics: names of the metrics to judge; None for those that the gate would judge.
        targets: metrics with a target in the configuration, which are therefore judged.
    """

    tolerance: float
    false_alarms: float
    use_report_tolerances: bool = True
    use_calibrated_tolerances: bool = False
    metrics: tuple[str, ...] | None = None
    targets: tuple[str, ...] = ()


def judge_pair(pair: SidePair, rules: ComparisonRules, strict: bool = False) -> ComparisonResult:
    """Judge the candidate's newest session against the base's sessions.

    Only the newest, because the gate's rules are for one new session. A report's own verdict
    is kept if it is worse, also for tests that the base does not hold.
    """
    candidates = candidate_tests(pair.candidate.records)
    known = {nodeid for stored in pair.base.records for nodeid in stored.record.tests}
    both = [test for test in candidates if test.nodeid in known]
    evidence = [(t, _evidence(t, check, pair)) for t in both for check in _checks(t, pair, rules)]
    verdicts = judge_session([item for _, item in evidence], rules.false_alarms)
    rows: dict[str, list[CheckResult]] = {test.nodeid: [] for test in both}
    for (test, item), verdict in zip(evidence, verdicts, strict=True):
        rows[test.nodeid].append(CheckResult(item, verdict))
    results = [_test_result(test, rows.get(test.nodeid, ()), pair) for test in candidates]
    tests = tuple(result for result in results if result.nodeid in rows or result.verdicts)
    base_tests, lost = newest_tests(pair.base.records), pair.candidate.side.unmeasured
    ran = {test.nodeid for test in candidates} | {test.nodeid for test in lost}
    return ComparisonResult(
        session=_session_result(pair, both or candidates, tests, rules, strict),
        base=pair.base.side.name,
        candidate=pair.candidate.side.name,
        base_sessions=len(pair.base.records),
        unlike=tuple(
            f"{d.item}: {d.baseline} → {d.current}" for d in relevant_differences(pair.differences)
        ),
        added=tuple(test.nodeid for test in candidates if test.nodeid not in known),
        removed=tuple(sorted(base_tests - ran)),
        failed=tuple(test.nodeid for test in lost if test.failed and test.nodeid in base_tests),
        against=_against(pair),
        strict=strict,
    )


def _checks(test: CandidateTest, pair: SidePair, rules: ComparisonRules) -> Iterator[Check]:
    """Yield the checks of one test, in display order."""
    reports = [side.side.reported.get(test.nodeid) for side in (pair.candidate, pair.base)]
    asked, asked_of_base = (None if report is None else report.tolerances() for report in reports)
    asked = asked or asked_of_base
    measured = test.record.metrics
    if not measured:
        # A test that could not be measured at all gets verdicts on the base's metrics.
        holding = [s for s in pair.base.records if test.nodeid in s.record.tests]
        measured = holding[-1].record.tests[test.nodeid].metrics
    known = {name: metric for name in measured if (metric := _metric(name)) is not None}
    judged = _judged(known, asked, rules, test.stored.record.imported is not None)
    own = dict(asked) if asked and rules.use_report_tolerances else {}
    if rules.use_calibrated_tolerances:
        given = test.record.tolerances.items()
        own = {name: tolerance.against_stored for name, tolerance in given} | own
    for name in dict.fromkeys([*ALWAYS_SHOWN, *METRICS, *sorted(known)]):
        if name in known and (name in judged or name in ALWAYS_SHOWN):
            yield Check(
                known[name],
                None,
                own.get(name, rules.tolerance),
                # Different machines or models are shown side by side, not judged.
                gated=name in judged and not pair.differences,
                asked=False,
            )


def _judged(
    known: Mapping[str, Metric],
    asked: Mapping[str, float] | None,
    rules: ComparisonRules,
    is_imported: bool,
) -> set[str]:
    """Return the names of the metrics to judge.

    A record does not keep what the test's markers asked for, so these are the metrics that
    the gate judges by default, those with a target, and percentiles, which are only recorded
    for a marker. For an imported session they are one metric of each quantity.
    """
    if rules.metrics is not None:
        return set(rules.metrics)
    if asked is not None:
        return set(asked)
    if is_imported:
        quantities: dict[str, str] = {}
        for name in (*METRICS, *known):
            if name in known:
                quantities.setdefault(known[name].quantity, name)
        return set(quantities.values())
    percentiles = {name for name, metric in known.items() if metric.kind == "percentile"}
    return {*DEFAULT_GATED, *rules.targets, *percentiles}


def _metric(name: str) -> Metric | None:
    """Return a metric that stored sessions can be compared on; None for any other name."""
    metric = known_metric(name)
    return None if metric is None or metric.kind == "share" or not metric.compared else metric


def _evidence(test: CandidateTest, check: Check, pair: SidePair) -> Evidence:
    record, name = test.record, check.metric.name
    samples = record.metrics[name].samples if name in record.metrics else ()
    times = record.metrics["end_to_end"].samples if "end_to_end" in record.metrics else ()
    return Evidence(
        nodeid=test.nodeid,
        check=check,
        samples=samples,
        planned_processes=test.stored.record.session.processes,
        baseline=_base_evidence(test, name, pair),
        invalid=record.invalid,
        ended=True,
        stalls=(stalls(times),) if times else (),
    )


def _base_evidence(test: CandidateTest, metric: str, pair: SidePair) -> BaselineSamples:
    """Return the base's samples; those of a changed workload are shown but not compared."""
    # Without the anchor: only how the two sides differ matters, not the base's history.
    samples = replace(base_samples(test, metric, pair), anchor=(), anchor_sources=())
    if samples.status != "workload changed":
        return samples
    holding = [s for s in pair.base.records if test.nodeid in s.record.tests]
    other = collect_baseline_samples(
        pair.base.records,
        test.nodeid,
        holding[-1].record.tests[test.nodeid].workload,
        metric,
        decisions=pair.base.decisions,
    )
    return replace(samples, sessions=other.sessions, sources=other.sources)


def _test_result(
    test: CandidateTest, compared: Sequence[CheckResult], pair: SidePair
) -> TestResult:
    reported = pair.candidate.side.reported.get(test.nodeid)
    rows = tuple(compared)
    if reported is not None:
        rows = with_reported_verdicts(rows, reported, pair.base.side.name)
    sources = {source for row in rows for source in row.baseline_sources}
    newest = next((s for s in reversed(pair.base.records) if str(s.path) in sources), None)
    kinds = [r.check.metric.kind for r in rows]
    processes = [len(r.samples) for r, kind in zip(rows, kinds, strict=True) if kind == "value"]
    return TestResult(
        nodeid=test.nodeid,
        rows=rows,
        workload=test.record.summary,
        workload_hash=test.record.workload,
        requests=test.record.requests,
        findings=tuple(test_findings(test, pair)),
        differences=recorded_differences(newest, test.stored, pair) if newest else (),
        processes=max(processes, default=0),
    )


def _session_result(
    pair: SidePair,
    candidates: Sequence[CandidateTest],
    tests: tuple[TestResult, ...],
    rules: ComparisonRules,
    strict: bool,
) -> SessionResult:
    used = dict.fromkeys(test.stored.path for test in candidates)
    records = pair.candidate.records
    # Without any test no session is used, so the newest describes the machine and model.
    newest = next((s for s in reversed(records) if s.path in used), records[-1])
    record = newest.record
    sources = {source for test in tests for row in test.rows for source in row.baseline_sources}
    return SessionResult(
        machine_key=record.machine.key,
        model=record.model.label,
        engine=engine_label(newest),
        processes=record.session.processes,
        iterations=record.session.iterations,
        seed=record.session.seed,
        tests=tests,
        busy=record.session.findings,
        notes=(*side_notes(pair, newest, used), *pair.notes),
        baseline_sources=tuple(sorted(sources)),
        false_alarms=rules.false_alarms,
        strict=strict,
        unmeasured=pair.candidate.side.unmeasured,
    )


def _against(pair: SidePair) -> str | None:
    """Return the revision of the base's code: the one given, or that of its newest record.

    An imported session can't be measured again with this tool, so it has none.
    """
    if pair.differences or pair.base.newest.imported is not None:
        return None
    if pair.base.side.commit is not None:
        return pair.base.side.argument
    source = pair.base.newest.provenance
    return source.commit[:12] if source.commit and not source.dirty else None
