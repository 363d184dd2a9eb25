"""The result of a session as plain data, the only input of all reports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.combine import worst
from pytest_llmperf.gate.numbers import NOTHING, Comparison, compare, session_level
from pytest_llmperf.gate.progress import CheckProgress, progress_of
from pytest_llmperf.gate.rules import FALSE_ALARMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmperf.baselines.record import ModelIdentity, Provenance
    from pytest_llmperf.gate.check import Check, Evidence, Samples
    from pytest_llmperf.gate.verdict import FailPolicy, Verdict
    from pytest_llmperf.machine.gpu.devices import Gpu
    from pytest_llmperf.machine.gpu.summary import TelemetrySummary
    from pytest_llmperf.quality.figures import QualityResult
    from pytest_llmperf.request_digest import RequestDigest
    from pytest_llmperf.session.fitness_entries import FitnessEntry
    from pytest_llmperf.session.recorded import Location, UnmeasuredTest
    from pytest_llmperf.session.report_history import ReportHistory
    from pytest_llmperf.session.roofline import RooflineShare
    from pytest_llmperf.session.shown_load import ShownLoad
    from pytest_llmperf.session.shown_timelines import ShownTimeline
    from pytest_llmperf.stats.summary import Summary


@dataclass(frozen=True)
class CheckResult:
    """One metric of one test, judged or only shown.

    Attributes:
        evidence: the samples and their baseline.
        verdict: the judgement, or None for a metric that is shown only.
        measured: summary of a figure that is not sampled by processes, such as quality.
    """

    evidence: Evidence
    verdict: Verdict | None = None
    measured: Summary | None = None

    @cached_property
    def numbers(self) -> Comparison:
        """The comparison of the samples; no numbers if they can't be summarised."""
        try:
            return compare(self.evidence)
        except ValueError:
            # The verdict gives the reason.
            return NOTHING

    @property
    def check(self) -> Check:
        """The metric and its limits."""
        return self.evidence.check

    @property
    def label(self) -> str:
        """The metric's name in tables."""
        return self.check.metric.label

    @property
    def summary(self) -> Summary | None:
        """Summary of this session's samples, base unit."""
        return self._possible(self.numbers.current) if self.measured is None else self.measured

    @property
    def baseline(self) -> Summary | None:
        """Summary of the samples of earlier sessions or of the base side, base unit."""
        return self._possible(self.numbers.baseline)

    def _possible(self, summary: Summary | None) -> Summary | None:
        """Return a summary with its interval limited to values that the metric can have."""
        largest = self.check.metric.largest
        if summary is None or summary.high is None or largest is None:
            return summary
        return replace(summary, high=min(summary.high, largest))

    @property
    def change(self) -> float | None:
        """Slowdown against the baseline as a fraction; positive is worse."""
        return self.numbers.change

    @property
    def baseline_sessions(self) -> int:
        """Number of earlier sessions in the comparison."""
        return self.numbers.baseline_sessions

    @property
    def baseline_sources(self) -> tuple[str, ...]:
        """Names of the earlier sessions in the comparison: file, date, commit."""
        return () if self.evidence.baseline is None else self.evidence.baseline.sources

    @property
    def baseline_levels(self) -> tuple[float, ...]:
        """Level of each earlier session in the comparison, base unit; empty if the work differs."""
        view = self.evidence.baseline
        if view is None or self.change is None:
            return ()
        return tuple(session_level(self.check.metric, session) for session in view.sessions)

    @property
    def progress(self) -> CheckProgress | None:
        """How the comparison went, pair by pair or against the target; or None."""
        return progress_of(self.evidence)

    @property
    def samples(self) -> Samples:
        """Raw samples, shape (processes, iterations); with two sides those of complete pairs."""
        pairs = self.evidence.pairs
        return self.evidence.samples if pairs is None else pairs.candidate

    @property
    def base_samples(self) -> Samples:
        """The base side's raw samples, empty without one; row i of both sides is pair i."""
        return () if self.evidence.pairs is None else self.evidence.pairs.base

    @property
    def against(self) -> str | None:
        """The name of the base side, or None."""
        return None if self.evidence.pairs is None else self.evidence.pairs.name


@dataclass(frozen=True)
class DiagnosedCause:
    """A possible cause of a slow test, found by a diagnosis.

    Attributes:
        name: its name in ``llmperf doctor``.
        title: what it is, in a few words.
        evidence: the observation, in one sentence.
        change: the fix.
        certain: whether it is definitely wrong; otherwise the change is worth trying.
    """

    name: str
    title: str
    evidence: str
    change: str
    certain: bool = True


@dataclass(frozen=True)
class TestResult:
    """One test: its metrics, workload, findings and verdicts.

    Attributes:
        nodeid: pytest's name of the test.
        rows: its metrics in the order of tables.
        workload: the work in one line, such as ``1 request, 38 tokens in, 64 out``.
        workload_hash: the identity of that work.
        requests: digests of its requests, to describe how another workload differs.
        settings: the engine settings that its sweep names, such as ``{"n_batch": 512}``; empty
            outside of a sweep.
        sweep: the test's node id without these settings; empty outside of a sweep.
        findings: causes and warnings about this test, one line each, such as stalls.
        differences: differences from the baseline, or the base side, other than speed, one line
            each, with both values: configuration, engine version, driver.
        pairs: number of complete pairs of processes, if two sides were compared.
        processes: number of valid processes of the candidate.
        earlier_pairs: number of these pairs that earlier sessions measured.
        culprit: what to blame for a regression, if the base side is another commit.
        bisect_from: what a search for the commit starts from; None if there is nothing to find.
        telemetry: summary of the GPUs while the candidate decoded; None if none were watched.
        roofline: how near decode is to this machine's limit, or None if not requested.
        is_confirmed: whether it was run against the commit of a stored session.
        fitness: findings on machine, measurement and configuration, by check.
        causes: changes of commit or configuration that explain why it is slower or misses a
            target, one line each, the most significant first.
        diagnosis: possible causes if it is too slow, the costliest first.
        doctor_command: the command that measures each change's effect; empty without causes, and
            for a server.
        quality_rows: the judged figures of the answers' quality.
        quality: all figures of the quality; None if not requested, or not measured.
        timelines: single iterations to show token by token.
        command: the command that measures this test again; empty where unknown.
        location: where the test is defined, or None.
        load: results of its load; None if its requests were sent one at a time.
        server: what its server's counters say of requests that were sent one at a time.
    """

    __test__ = False  # not a test class, whatever pytest's collector thinks of its name

    nodeid: str
    rows: tuple[CheckResult, ...]
    workload: str = ""
    workload_hash: str = ""
    requests: tuple[RequestDigest, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    sweep: str = ""
    findings: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    pairs: int = 0
    processes: int = 0
    earlier_pairs: int = 0
    culprit: str = ""
    bisect_from: str | None = None
    is_confirmed: bool = False
    telemetry: TelemetrySummary | None = None
    roofline: RooflineShare | None = None
    fitness: tuple[FitnessEntry, ...] = ()
    causes: tuple[str, ...] = ()
    diagnosis: tuple[DiagnosedCause, ...] = ()
    doctor_command: str = ""
    quality_rows: tuple[CheckResult, ...] = ()
    quality: QualityResult | None = None
    timelines: tuple[ShownTimeline, ...] = ()
    command: str = ""
    location: Location | None = None
    load: ShownLoad | None = None
    server: tuple[str, ...] = ()

    @property
    def all_rows(self) -> tuple[CheckResult, ...]:
        """Speed, then quality."""
        return (*self.rows, *self.quality_rows)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The judgements of the gated metrics, and of the quality."""
        return tuple(row.verdict for row in self.all_rows if row.verdict is not None)

    @property
    def against(self) -> str | None:
        """The name of the base side, or None."""
        return next((row.against for row in self.rows if row.against is not None), None)

    @property
    def worst(self) -> Verdict | None:
        """The test's own verdict, by precedence; None if nothing was judged."""
        return worst(self.verdicts) if self.verdicts else None


@dataclass(frozen=True)
class SessionResult:
    """The result of one measuring session.

    Attributes:
        machine_key: readable key of the machine, such as ``1x-rtx-4090-24gib_cuda``.
        model: name of the model, quantization included.
        engine: the engine and its version.
        processes: minimum number of engine processes (or pairs of them) per test.
        unit: the noun for what one sample comes from: ``process``, or ``block``.
        iterations: iterations per process.
        seed: seed of the random order.
        tests: the tests in the order they ran.
        busy: what else used the machine while measuring, one line each.
        notes: anything else about the whole session, one line each, such as the
            nearest machine that has a baseline.
        wall_seconds: wall time of the measure stage, seconds.
        generation_seconds: the part of it that was spent inside generation, seconds.
        recording_generation_seconds: the same for the test bodies, before that; seconds.
        baseline_sources: the baseline files that were compared with.
        recorded_to: the baseline file this session wrote, or None.
        problems: what could not be stored, one line each.
        against: name of the base side that ran interleaved, or None.
        base_commit: hash of the base side's commit, if it is another commit.
        side_differences: how the two sides differ, one line each.
        false_alarms: chance of any false ``regressed`` in the session.
        strict: whether an inconclusive test fails.
        gpus: the GPUs that were watched.
        waited_seconds: how long the session waited for a busy machine, seconds.
        fitness: the worst finding of each fitness check, over all tests.
        measured_at: the UTC time at which the result was made, ``2026-11-22T23:59:26Z``.
        provenance: provenance of the code under test.
        model_file: identity of the model.
        config: the resolved ``llm`` section, as a record stores it.
        machine_facts: items of the machine's fingerprint.
        command: the command that ran this session; empty where unknown.
        history: levels of the tests in earlier recorded sessions; None where not requested.
        policy: which verdicts fail a test; None takes the default policy, with ``strict``.
        unmeasured: perf tests that ran too but could not be measured.
        interrupted: whether the user ended it before all of its work was done.
    """

    machine_key: str
    model: str
    engine: str
    processes: int
    iterations: int
    seed: int
    tests: tuple[TestResult, ...]
    busy: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    wall_seconds: float = 0.0
    generation_seconds: float = 0.0
    recording_generation_seconds: float = 0.0
    baseline_sources: tuple[str, ...] = ()
    recorded_to: str | None = None
    problems: tuple[str, ...] = ()
    against: str | None = None
    base_commit: str | None = None
    side_differences: tuple[str, ...] = ()
    false_alarms: float = FALSE_ALARMS
    strict: bool = False
    gpus: tuple[Gpu, ...] = ()
    waited_seconds: float = 0.0
    fitness: tuple[FitnessEntry, ...] = ()
    measured_at: str = ""
    provenance: Provenance | None = None
    model_file: ModelIdentity | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    machine_facts: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    history: ReportHistory | None = None
    policy: FailPolicy | None = None
    unmeasured: tuple[UnmeasuredTest, ...] = ()
    unit: str = "process"
    interrupted: bool = False
