"""Judges all tests of a session by their samples so far, after every round and at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median, quantiles

from pytest_llmperf.baselines.match import BaselineSet
from pytest_llmperf.baselines.samples import BaselineSamples, collect_baseline_samples
from pytest_llmperf.baselines.store import StoredRecord
from pytest_llmperf.engine_kinds import engine_kind
from pytest_llmperf.gate.check import Check, Evidence, Pairs, Samples
from pytest_llmperf.gate.combine import judge_session
from pytest_llmperf.gate.sequential import first_look, has_enough_values
from pytest_llmperf.gate.words import count, listed
from pytest_llmperf.machine.fingerprint import Difference, relevant_differences
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.replication import BLOCK
from pytest_llmperf.measure.rounds import OpenTest
from pytest_llmperf.measure.samples import BASE, CANDIDATE, TestSamples
from pytest_llmperf.metrics import percentile_parts
from pytest_llmperf.session.base_side import BaseSide
from pytest_llmperf.session.facts import SessionFacts
from pytest_llmperf.session.open_tests import open_tests
from pytest_llmperf.session.recorded import RecordedTest
from pytest_llmperf.session.result import CheckResult
from pytest_llmperf.session.roofline import UnknownLimit
from pytest_llmperf.session.tolerances import calibrated
from pytest_llmperf.session.undefined import undefined_text
from pytest_llmperf.session.warming_up import warm_up_message
from pytest_llmperf.stats.percentiles import group_size, min_values
from pytest_llmperf.stats.summary import process_medians, stalled
from pytest_llmperf.text import plural


class SessionGate:
    """Judges the whole session, at any time, from the samples so far.

    Args:
        tests: the recorded tests.
        plan: the plan of the measure stage.
        facts: machine, model and baselines.
        alpha: chance per session of a false ``regressed``.
        base: the base side, or None.
        same_as: by node id, the stored session with the same code, configuration, packages, engine
            and model as a test, so that only the machine can have made the test slower.
    """

    def __init__(
        self,
        tests: Sequence[RecordedTest],
        plan: Plan,
        facts: SessionFacts,
        alpha: float,
        base: BaseSide | None = None,
        same_as: Mapping[str, str] | None = None,
    ) -> None:
        self._same_as = same_as or {}
        self._recorded = tests
        self._plan = plan
        self._facts = facts
        self._alpha = alpha
        self._base = base
        self._stored: dict[tuple[str, str], BaselineSamples] = {}

    def undecided(self, tests: Mapping[str, TestSamples]) -> Mapping[str, OpenTest]:
        """Return the tests that more samples could still decide, and what is undecided in each."""
        return open_tests(self.judge(tests, ended=False))

    def with_rate(self, alpha: float, same_as: Mapping[str, str]) -> SessionGate:
        """Return a copy of this gate with another false-alarm rate and another ``same_as``."""
        gate = SessionGate(self._recorded, self._plan, self._facts, alpha, self._base, same_as)
        gate._stored = self._stored
        return gate

    def judge(
        self, tests: Mapping[str, TestSamples], *, ended: bool = True, interrupted: bool = False
    ) -> list[CheckResult]:
        """Judge every check of every test, in the order of the tests and their checks.

        ``ended``: nothing more will be measured, so verdicts say how much more would decide.
        ``interrupted``: the user ended the session.
        """
        evidence = [
            replace(
                self._evidence(test, check, tests[test.nodeid], interrupted),
                ended=ended,
                interrupted=interrupted,
            )
            for test in self._recorded
            for check in test.checks
            if _is_defined(check, tests[test.nodeid])
            or self._no_roofline(test, check, tests[test.nodeid])
        ]
        verdicts = judge_session(evidence, self._alpha)
        return [CheckResult(e, v) for e, v in zip(evidence, verdicts, strict=True)]

    def unjudged_targets(self, tests: Mapping[str, TestSamples]) -> list[str]:
        """Return a line for each metric with a configured target that a test leaves undefined."""
        unjudged: dict[str, list[str]] = {}
        for test in self._recorded:
            samples = tests[test.nodeid]
            for check in test.checks:
                if check.limit is None or _is_defined(check, samples):
                    continue
                if not self._no_roofline(test, check, samples):
                    unjudged.setdefault(check.metric.label, []).append(test.nodeid)
        return [
            f"the target for {label} (perf.targets) is not judged in {listed(nodeids)}: {label} is "
            "undefined for these requests"
            for label, nodeids in unjudged.items()
        ]

    def stored(self, test: RecordedTest, check: Check) -> BaselineSamples:
        """Return the earlier sessions' samples for one check."""
        key = (test.nodeid, check.metric.name)
        if key not in self._stored:
            baselines = self._facts.baselines
            self._stored[key] = collect_baseline_samples(
                baselines.records,
                test.nodeid,
                test.workload.hash,
                check.metric.name,
                settings=test.identity,
                decisions=baselines.decisions,
                summary=test.workload.summary,
                requests=test.workload.digests,
                name=lambda record: source_of(record, self._facts),
            )
        return self._stored[key]

    def _evidence(
        self, test: RecordedTest, check: Check, samples: TestSamples, interrupted: bool
    ) -> Evidence:
        plan, nodeid = self._plan, test.nodeid
        relation = self._base.relation(nodeid) if self._base is not None else None
        sides = 1 if relation in (None, "absent") else 2
        paired = relation == "same" and check.metric.compared
        check = calibrated(check, self._facts.tolerances.get(nodeid, {}), paired=paired)
        done = samples.pairs if sides == 2 else len(samples.processes)
        new = done - samples.earlier
        disturbed = why_disturbed(samples, plan.processes)
        judged = samples if disturbed else samples.undisturbed()
        seconds = samples.seconds / new + plan.start_seconds * sides if new else None
        size, unknown = _processes_per_row(check, samples), None
        if check.metric.name == "roofline" and not _rows(check, samples):
            unknown = self._no_roofline(test, check, samples)
        if seconds is not None:
            seconds *= size
        return Evidence(
            nodeid=nodeid,
            check=check,
            samples=_rows(check, judged),
            planned_processes=plan.processes,
            baseline=None
            if paired or not check.metric.compared
            else self._baseline(test, check, samples),
            pairs=_pairs(check, samples, self.base_name, seconds) if paired else None,
            invalid=unfit(samples, plan, interrupted=interrupted)
            or _unfit_for_now(unknown)
            or self._warming_up(check, judged, paired=paired),
            error=self._broken(nodeid)
            or samples.error
            or self._undefined(test, samples, check, unknown),
            budget_reached=samples.budget_reached,
            budget_seconds=plan.test_budgets.get(nodeid) if samples.own_budget else plan.budget,
            own_budget=samples.own_budget,
            row_size=size,
            exhausted=new - samples.pairs_without_turns >= plan.max_processes,
            stalls=(samples if paired else samples.of_side(CANDIDATE)).stalls(),
            void=samples.void_pairs if paired else len(samples.voided),
            seconds=seconds,
            same_as=self._same_as.get(nodeid, ""),
            disturbed=disturbed,
            unit=plan.unit.name,
        )

    def _warming_up(self, check: Check, samples: TestSamples, *, paired: bool) -> tuple[str, ...]:
        """Return a message if a server was still warming up; the sides of a pair warm up alike."""
        if paired or self._plan.unit is not BLOCK:
            return ()
        text = warm_up_message(check.metric, samples.values(check.metric.name), check.tolerance)
        return (text,) if text else ()

    def _no_roofline(
        self, test: RecordedTest, check: Check, samples: TestSamples
    ) -> UnknownLimit | None:
        """Return why a gated roofline is unknown on this machine; else None."""
        if check.metric.name != "roofline" or not check.gated or not _has_candidate(samples):
            return None
        limit = self._facts.roofline.limit_of(self._facts.for_test(test).info, test.workload)
        return limit if isinstance(limit, UnknownLimit) else None

    def _undefined(
        self, test: RecordedTest, samples: TestSamples, check: Check, unknown: UnknownLimit | None
    ) -> str | None:
        """Return why a gated metric has no value although the test was measured."""
        metric = check.metric
        if not _has_candidate(samples) or metric.kind == "share":
            return None
        if unknown is not None:
            return None if unknown.is_temporary else f"the {metric.name} is unknown: {unknown.text}"
        parts = percentile_parts(metric.name)
        if parts is not None and any(samples.pooled_rows(parts[0], CANDIDATE)):
            return _too_few_values(samples, check, self._plan, *parts)
        if parts is None and samples.values(metric.name):
            return None
        if why := _why_undefined(samples, metric.name):
            return f"{metric.name} could not be measured: {why}"
        return undefined_text(metric, test.workload, engine_kind(self._facts.info.engine))

    @property
    def base_name(self) -> str:
        """The name of the base side; empty without one."""
        return self._base.name if self._base is not None else ""

    def _broken(self, nodeid: str) -> str | None:
        return self._base.broken.get(nodeid) if self._base is not None else None

    def _baseline(self, test: RecordedTest, check: Check, samples: TestSamples) -> BaselineSamples:
        if self._base is not None:
            return _other_work(self._base, test, check, samples)
        stored = self.stored(test, check)
        return (
            stored
            if stored.detail
            else replace(stored, detail=why_no_baseline_matches(self._facts.baselines))
        )


def _other_work(
    base: BaseSide, test: RecordedTest, check: Check, samples: TestSamples
) -> BaselineSamples:
    """Return why a test is not compared with the base side, and the base's samples to show."""
    other = base.workload_difference(test)
    if not other:
        return BaselineSamples("missing", detail=base.absent.get(test.nodeid, ""))
    rows = samples.values(check.metric.name, BASE) if check.metric.kind == "value" else ()
    return BaselineSamples("workload changed", sessions=(rows,) if rows else (), detail=other)


def unfit(samples: TestSamples, plan: Plan, *, interrupted: bool = False) -> tuple[str, ...]:
    """Return why the machine or the replays were unfit, if too few good samples are left.

    With two sides a pair is good only if both of its processes are valid. ``interrupted``: the user
    ended the session, so good samples could have followed, unless the test was given up.
    """
    enough = (interrupted or samples.judged_count >= plan.processes) and not samples.given_up
    if enough or not samples.voided:
        return ()
    # The texts differ only in digits from process to process, so one is enough.
    text, others = samples.voided[-1].void or "", len(samples.voided) - 1
    more = count(others, f"more {plan.unit.name}")
    return (f"{text} (and {more} like it)" if others else text,)


def why_disturbed(samples: TestSamples, planned: int) -> str:
    """Return what disturbed both sides of pairs, if too few calm processes are left; else ''."""
    disturbed = [sample.disturbed for sample in samples.processes if sample.disturbed]
    calm = sum(not sample.disturbed for sample in samples.processes if sample.side == CANDIDATE)
    return disturbed[-1] if disturbed and calm < planned else ""


def source_of(stored: StoredRecord, facts: SessionFacts) -> str:
    """Return a stored session's file name, which contains date and commit."""
    try:
        return str(stored.path.relative_to(facts.store.root.parent))
    except ValueError:
        return str(stored.path)


def differences_line(differences: Sequence[Difference]) -> str:
    """Return how a stored machine differs from this one, in one line."""
    known = relevant_differences(differences)
    return "; ".join(f"{d.item}: base {d.baseline}, candidate {d.current}" for d in known)


def why_no_baseline_matches(baselines: BaselineSet) -> str:
    """Return why no stored session matches this machine; empty if there is no stored session."""
    if baselines.mismatched:
        newest = baselines.mismatched[-1]
        return f"{newest.path.name} does not match: {differences_line(newest.differences)}"
    nearest = baselines.nearest
    if nearest is not None:
        return f"the nearest is {nearest.key}: {differences_line(nearest.differences)}"
    return ""


def _is_defined(check: Check, samples: TestSamples) -> bool:
    """Whether to judge a check; default metrics that the workload leaves undefined are skipped.

    For example, a single output token has no decode rate. A gated metric whose formula fails is
    not skipped, because its target would seem to be met.
    """
    name = check.metric.name
    if check.asked or not _has_candidate(samples) or samples.values(name):
        return True
    return check.gated and not check.metric.beside and _why_undefined(samples, name) is not None


def _has_candidate(samples: TestSamples) -> bool:
    """Whether this session's own side has a valid process."""
    return any(sample.side == CANDIDATE for sample in samples.processes)


def _rows(check: Check, samples: TestSamples) -> Samples:
    if check.metric.kind == "share":
        rows = samples.values("end_to_end")
        return _stalled(rows, median(process_medians(rows))) if rows else ()
    return samples.values(check.metric.name)


def _processes_per_row(check: Check, samples: TestSamples) -> int:
    """Return how many processes (or pairs) one value takes: a percentile may need several."""
    parts = percentile_parts(check.metric.name)
    per_process = min(map(len, samples.pooled_rows(parts[0], CANDIDATE)), default=0) if parts else 0
    return group_size(per_process, parts[1]) if parts and per_process else 1


def _pairs(check: Check, samples: TestSamples, name: str, seconds: float | None) -> Pairs:
    if check.metric.kind == "share":
        candidate, base = samples.paired_durations()
        if not candidate:
            return Pairs((), (), name, seconds)
        # One threshold for both sides, so that they can be swapped within a pair; a low quartile,
        # as a side that stalls in most of its iterations would raise the median.
        centre = quantiles(process_medians((*candidate, *base)), n=4, method="inclusive")[0]
        return Pairs(_stalled(candidate, centre), _stalled(base, centre), name, seconds)
    metric = check.metric
    candidate, base = samples.paired(metric.name)
    differences, others = samples.differences(metric), samples.differences_without_turns(metric)
    return Pairs(candidate, base, name, seconds, differences, others)


def _stalled(rows: Samples, centre: float) -> Samples:
    """Convert rows of durations to rows of 1 (stalled) and 0."""
    return tuple(tuple(float(is_stalled) for is_stalled in row) for row in stalled(rows, centre))


def _unfit_for_now(unknown: UnknownLimit | None) -> tuple[str, ...]:
    return (unknown.text,) if unknown is not None and unknown.is_temporary else ()


def _why_undefined(samples: TestSamples, name: str) -> str | None:
    """Return why a metric is undefined, according to the newest valid process."""
    own = [sample for sample in samples.processes if sample.side == CANDIDATE]
    return next((s.undefined[name] for s in reversed(own) if name in s.undefined), None)


def _too_few_values(
    samples: TestSamples, check: Check, plan: Plan, source: str, percent: float
) -> str | None:
    """Return why the maximum number of processes gives too few values for a percentile."""
    rows = samples.pooled_rows(source, CANDIDATE) or samples.pooled_rows(source, BASE)
    size = min(map(len, rows), default=0)
    name, groups = check.metric.label, first_look(check.metric)
    unit, limit = plan.unit, plan.max_processes
    noun, setting = plural(unit.name), "max_processes"
    if plan.paired:
        noun, setting = f"pairs of {noun}", "max_pairs"
    if has_enough_values(check.metric, percent, size, limit):
        return None
    return (
        f"{name} needs at least {groups} groups of {min_values(percent)} values; a {unit.name} of "
        f"this workload has {size}, and at most {limit} {noun} are measured: ask for more requests "
        f"or output tokens in the test, raise perf.{setting}, or ask for a lower percentile"
    )
