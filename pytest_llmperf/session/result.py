"""What a session found, as plain data: stored, rendered and turned into reports from here alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_llmperf.gate.combine import worst
from pytest_llmperf.gate.numbers import NOTHING, Comparison, compare
from pytest_llmperf.gate.rules import FALSE_ALARMS

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check, Evidence, Samples
    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.machine.gpu.facts import GpuFacts
    from pytest_llmperf.machine.gpu.summary import TelemetrySummary
    from pytest_llmperf.request_digest import RequestDigest
    from pytest_llmperf.session.fitness_entries import FitnessEntry
    from pytest_llmperf.session.roofline_share import RooflineShare
    from pytest_llmperf.stats.summary import Summary


@dataclass(frozen=True)
class CheckResult:
    """One metric of one test, judged or only shown.

    Attributes:
        evidence: the samples and what they are compared with.
        verdict: the judgement, or None for a metric that is shown only.
    """

    evidence: Evidence
    verdict: Verdict | None = None

    @cached_property
    def numbers(self) -> Comparison:
        """What the samples amount to; no numbers where they can't be summarised."""
        try:
            return compare(self.evidence)
        except ValueError:
            # The verdict says why.
            return NOTHING

    @property
    def check(self) -> Check:
        """The metric and what it is held to."""
        return self.evidence.check

    @property
    def label(self) -> str:
        """What tables call the metric."""
        return self.check.metric.label

    @property
    def summary(self) -> Summary | None:
        """What this session measured, base unit."""
        return self.numbers.current

    @property
    def baseline(self) -> Summary | None:
        """What earlier sessions, or the base side, measured, base unit."""
        return self.numbers.baseline

    @property
    def change(self) -> float | None:
        """Slowdown against the baseline as a fraction; positive is worse."""
        return self.numbers.change

    @property
    def baseline_sessions(self) -> int:
        """How many earlier sessions the comparison rests on."""
        return self.numbers.baseline_sessions

    @property
    def baseline_sources(self) -> tuple[str, ...]:
        """Names of those sessions: file, date, commit."""
        return () if self.evidence.baseline is None else self.evidence.baseline.sources

    @property
    def samples(self) -> Samples:
        """Raw samples, shape (processes, iterations); of two sides those of complete pairs."""
        pairs = self.evidence.pairs
        return self.evidence.samples if pairs is None else pairs.candidate

    @property
    def base_samples(self) -> Samples:
        """The base side's; row i of both is pair i. Empty without one."""
        return () if self.evidence.pairs is None else self.evidence.pairs.base

    @property
    def against(self) -> str | None:
        """What the base side is called, or None."""
        return None if self.evidence.pairs is None else self.evidence.pairs.name


@dataclass(frozen=True)
class DiagnosedCause:
    """Why a test may be slow, as a diagnosis saw it.

    Attributes:
        name: of the cause, as ``llmperf doctor`` calls it.
        title: what it is, in a few words.
        evidence: what was seen, in one sentence.
        change: what mends it.
        certain: it is wrong whatever it costs; otherwise it is worth trying.
    """

    name: str
    title: str
    evidence: str
    change: str
    certain: bool = True


@dataclass(frozen=True)
class TestResult:
    """One test: its rows, its work and what was found out about it.

    Attributes:
        nodeid: pytest's name of the test.
        rows: its metrics in the order to show them.
        workload: the work in one line, such as ``1 request, 38 tokens in, 64 out``.
        workload_hash: the identity of that work.
        requests: digests of what was asked for, to tell another work from it.
        findings: causes and warnings about this test, one line each, such as stalls.
        differences: what differs from the baseline, or the base side, besides speed, one
            line each, with both values: configuration, engine version, driver.
        pairs: complete pairs of processes, where two sides were compared.
        processes: valid processes of this session's own side.
        earlier_pairs: of the pairs, those that earlier sessions measured.
        culprit: what a regression is to be put down to, where the base side is another commit.
        bisect_from: what a search for the commit starts from; None where nothing is to find.
        telemetry: what the GPUs did while it decoded, this session's own side; None without.
        roofline: how near decode is to this machine's limit, or None where nobody asked.
        is_confirmed: it is the commit of a stored session that made the test suspect.
        fitness: what was unfit while it was measured, and what its configuration does, by check.
        causes: of a test that is slower or misses a target: what the commit or the
            configuration did that explains it, one line each, the most telling first.
        diagnosis: why it may be slow, the costliest cause first; of tests that are too slow.
        doctor_command: what measures which change brings how much; empty without causes.
    """

    __test__ = False  # not a test class, whatever pytest's collector thinks of its name

    nodeid: str
    rows: tuple[CheckResult, ...]
    workload: str = ""
    workload_hash: str = ""
    requests: tuple[RequestDigest, ...] = ()
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

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The judgements of the gated metrics."""
        return tuple(row.verdict for row in self.rows if row.verdict is not None)

    @property
    def against(self) -> str | None:
        """What the base side is called, or None."""
        return next((row.against for row in self.rows if row.against is not None), None)

    @property
    def worst(self) -> Verdict | None:
        """The test's own verdict, by precedence; None where nothing was judged."""
        return worst(self.verdicts) if self.verdicts else None


@dataclass(frozen=True)
class SessionResult:
    """One session of measuring.

    Attributes:
        machine_key: readable key of the machine, such as ``1x-rtx-4090-24gib_cuda``.
        model: name of the model, quantization included.
        engine: the engine and its version.
        processes: fewest engine processes (or pairs of them) per test.
        iterations: iterations per process.
        seed: seed of the random order.
        tests: the tests in the order they ran.
        busy: what else used the machine while measuring, one line each.
        notes: anything else about the whole session, one line each, such as the
            nearest machine that has a baseline.
        wall_seconds: wall time of the measure stage, seconds.
        generation_seconds: how much of it was spent inside generation, seconds.
        recording_generation_seconds: what the bodies spent inside generation before that, seconds.
        baseline_sources: the baseline files that were compared with.
        recorded_to: the baseline file this session wrote, or None.
        record_command: what records a baseline.
        accept_command: what makes this session's level the one to compare with.
        against: what the base side is called that ran interleaved, or None.
        base_commit: its hash, where it is another commit.
        base_differences: what differs in it, one line each.
        false_alarms: chance of any false ``regressed`` in the session.
        strict: what is inconclusive fails its test.
        gpus: the GPUs that were watched.
        waited_seconds: how long the session waited for the machine to be fit, seconds.
        fitness: the tests' findings by check, the worst of each.
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
    record_command: str = "pytest -m perf --llmperf-record"
    accept_command: str = 'pytest -m perf --llmperf-accept "why"'
    against: str | None = None
    base_commit: str | None = None
    base_differences: tuple[str, ...] = ()
    false_alarms: float = FALSE_ALARMS
    strict: bool = False
    gpus: tuple[GpuFacts, ...] = ()
    waited_seconds: float = 0.0
    fitness: tuple[FitnessEntry, ...] = ()
