"""From two sides of stored sessions to verdicts: the gate's own, over the gate's own evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.evidence import BaselineSamples, evidence_for
from pytest_llmperf.baselines.side_pairs import Facing, model_label
from pytest_llmperf.cli.compare_candidates import Candidate, candidates_of, present, stored_of
from pytest_llmperf.cli.compare_checks import Rules, checks_of
from pytest_llmperf.cli.compare_own import with_own_verdicts
from pytest_llmperf.cli.compare_words import engine_of, findings, recorded_between, sides_in_words
from pytest_llmperf.gate.check import Evidence
from pytest_llmperf.gate.combine import judge_session
from pytest_llmperf.machine.fingerprint import telling
from pytest_llmperf.report.comparison import ComparisonView
from pytest_llmperf.session.result import CheckResult, SessionResult, TestResult
from pytest_llmperf.stats.summary import stalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.gate.check import Check


def compare_sides(facing: Facing, rules: Rules, strict: bool = False) -> ComparisonView:
    """Judge what the judged side measured by the base's sessions.

    Of several sessions the newest is judged: the gate's rules are for one new session. What
    the session of a report said itself is kept where it is worse, of tests that the base does
    not hold, too.
    """
    candidates = candidates_of(facing.judged.records)
    known = {nodeid for stored in facing.base.records for nodeid in stored.record.tests}
    both = [one for one in candidates if one.nodeid in known]
    evidence = [
        (one, _evidence(one, check, facing))
        for one in both
        for check in _checks(one, facing, rules)
    ]
    verdicts = judge_session([item for _, item in evidence], rules.false_alarms)
    rows: dict[str, list[CheckResult]] = {one.nodeid: [] for one in both}
    for (one, item), verdict in zip(evidence, verdicts, strict=True):
        rows[one.nodeid].append(CheckResult(item, verdict))
    views = [
        _view(one, _with_own(one, rows.get(one.nodeid, ()), facing), facing) for one in candidates
    ]
    tests = tuple(view for view in views if view.nodeid in rows or view.verdicts)
    there = present(facing.base.records)
    return ComparisonView(
        session=_session(facing, both or candidates, tests, rules, strict),
        base=facing.base.side.name,
        judged=facing.judged.side.name,
        base_sessions=len(facing.base.records),
        unlike=tuple(f"{d.item}: {d.baseline} → {d.current}" for d in telling(facing.differences)),
        added=tuple(one.nodeid for one in candidates if one.nodeid not in known),
        removed=tuple(sorted(there - {one.nodeid for one in candidates})),
        against=_against(facing),
        strict=strict,
    )


def _with_own(
    one: Candidate, rows: Sequence[CheckResult], facing: Facing
) -> tuple[CheckResult, ...]:
    side = facing.judged.side
    own = side.verdicts.get(one.nodeid, {})
    return with_own_verdicts(one.nodeid, rows, own, facing.base.side.name)


def _checks(one: Candidate, facing: Facing, rules: Rules) -> list[Check]:
    asked = facing.judged.side.judged.get(one.nodeid) or facing.base.side.judged.get(one.nodeid)
    measured = one.test.metrics
    if not measured:
        # What could not be measured at all has its verdicts, too: those of the base's metrics.
        holding = [s for s in facing.base.records if one.nodeid in s.record.tests]
        measured = holding[-1].record.tests[one.nodeid].metrics
    found = checks_of(measured, asked, rules)
    # Unlike machines or models are shown side by side, and not judged.
    return [replace(check, gated=False) for check in found] if facing.differences else found


def _evidence(one: Candidate, check: Check, facing: Facing) -> Evidence:
    test, name = one.test, check.metric.name
    samples = test.metrics[name].samples if name in test.metrics else ()
    times = test.metrics["end_to_end"].samples if "end_to_end" in test.metrics else ()
    return Evidence(
        nodeid=one.nodeid,
        check=check,
        samples=samples,
        planned_processes=one.stored.record.session.processes,
        baseline=_base_of(one, name, facing),
        invalid=test.invalid,
        ended=True,
        stalls=(stalls(times),) if times else (),
    )


def _base_of(one: Candidate, metric: str, facing: Facing) -> BaselineSamples:
    """Return what the base measured; of a changed workload its values, shown and not compared."""
    # Without the anchor: how the two sides differ counts, not how the base came about.
    found = replace(stored_of(one, metric, facing), anchor=(), anchor_sources=())
    if found.status != "workload changed":
        return found
    holding = [s for s in facing.base.records if one.nodeid in s.record.tests]
    other = evidence_for(
        facing.base.records,
        one.nodeid,
        holding[-1].record.tests[one.nodeid].workload,
        metric,
        decisions=facing.base.decisions,
    )
    return replace(found, sessions=other.sessions, sources=other.sources)


def _view(one: Candidate, rows: tuple[CheckResult, ...], facing: Facing) -> TestResult:
    sources = {source for row in rows for source in row.baseline_sources}
    newest = next((s for s in reversed(facing.base.records) if str(s.path) in sources), None)
    kinds = [r.check.metric.kind for r in rows]
    processes = [len(r.samples) for r, kind in zip(rows, kinds, strict=True) if kind == "value"]
    return TestResult(
        nodeid=one.nodeid,
        rows=rows,
        workload=one.test.summary,
        workload_hash=one.test.workload,
        requests=one.test.requests,
        findings=tuple(findings(one, facing)),
        differences=recorded_between(newest, one.stored, facing) if newest else (),
        processes=max(processes, default=0),
    )


def _session(
    facing: Facing,
    candidates: Sequence[Candidate],
    tests: tuple[TestResult, ...],
    rules: Rules,
    strict: bool,
) -> SessionResult:
    used = dict.fromkeys(one.stored.path for one in candidates)
    records = facing.judged.records
    # Where no session holds a test, none stands for one.
    newest = next((s for s in reversed(records) if s.path in used), records[-1])
    record = newest.record
    sources = {source for test in tests for row in test.rows for source in row.baseline_sources}
    return SessionResult(
        machine_key=record.machine.key,
        model=model_label(record.model),
        engine=engine_of(newest),
        processes=record.session.processes,
        iterations=record.session.iterations,
        seed=record.session.seed,
        tests=tests,
        busy=record.session.findings,
        notes=(*sides_in_words(facing, newest, used), *facing.notes),
        baseline_sources=tuple(sorted(sources)),
        false_alarms=rules.false_alarms,
        strict=strict,
    )


def _against(facing: Facing) -> str | None:
    """Return what names the base's code: the commit compared with, or that of its newest record."""
    if facing.differences:
        return None
    if facing.base.side.commit is not None:
        return facing.base.side.argument
    source = facing.base.newest.provenance
    return source.commit[:12] if source.commit and not source.dirty else None
