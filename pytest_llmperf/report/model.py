"""What a session has to say, as plain data: every renderer draws from these objects alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.combine import worst
from pytest_llmperf.gate.rules import compare

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check, Evidence, Samples
    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.stats.summary import Summary


@dataclass(frozen=True)
class MetricRow:
    """One metric of one test, judged or only shown.

    Attributes:
        check: the metric and what it is held to.
        summary: what this session measured, base unit, or None.
        baseline: what earlier sessions measured, or None.
        change: slowdown against the baseline, positive is worse, or None.
        baseline_sessions: how many earlier sessions the comparison rests on.
        baseline_sources: names of those sessions: file, date, commit.
        samples: this session's raw samples, shape (processes, iterations).
        verdict: the judgement, or None for a metric that is shown only.
    """

    check: Check
    summary: Summary | None
    baseline: Summary | None
    change: float | None
    baseline_sessions: int
    baseline_sources: tuple[str, ...]
    samples: Samples
    verdict: Verdict | None

    @property
    def label(self) -> str:
        """What tables call the metric."""
        return self.check.metric.label


@dataclass(frozen=True)
class TestReportView:
    """One test: its rows, its work and what was found out about it.

    Attributes:
        nodeid: pytest's name of the test.
        rows: its metrics in the order to show them.
        workload: the work in one line, such as ``1 request, 38 tokens in, 64 out``.
        workload_hash: the identity of that work.
        findings: causes and warnings about this test, one line each, such as stalls.
        differences: what differs from the baseline besides speed, one line each,
            with both values: configuration, engine version, driver.
    """

    __test__ = False  # not a test class, whatever pytest's collector thinks of its name

    nodeid: str
    rows: tuple[MetricRow, ...]
    workload: str = ""
    workload_hash: str = ""
    findings: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The judgements of the gated metrics."""
        return tuple(row.verdict for row in self.rows if row.verdict is not None)

    @property
    def worst(self) -> Verdict | None:
        """The test's own verdict, by precedence; None where nothing was judged."""
        return worst(self.verdicts) if self.verdicts else None


@dataclass(frozen=True)
class SessionView:
    """One session of measuring.

    Attributes:
        machine_key: readable key of the machine, such as ``1x-rtx-4090-24gib_cuda``.
        model: name of the model, quantization included.
        engine: the engine and its version.
        processes: engine processes planned per test.
        iterations: iterations per process.
        seed: seed of the random order.
        tests: the tests in the order they ran.
        busy: what else used the machine while measuring, one line each.
        notes: anything else about the whole session, one line each, such as the
            nearest machine that has a baseline.
        wall_s: wall time of the measure stage, seconds.
        generation_s: how much of it was spent inside generation, seconds.
        recording_generation_s: what the bodies spent inside generation before that, seconds.
        baseline_sources: the baseline files that were compared with.
        recorded_to: the baseline file this session wrote, or None.
        record_command: what records a baseline.
    """

    machine_key: str
    model: str
    engine: str
    processes: int
    iterations: int
    seed: int
    tests: tuple[TestReportView, ...]
    busy: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    wall_s: float = 0.0
    generation_s: float = 0.0
    recording_generation_s: float = 0.0
    baseline_sources: tuple[str, ...] = ()
    recorded_to: str | None = None
    record_command: str = "pytest -m perf --llmperf-record"


def row_of(evidence: Evidence, verdict: Verdict | None = None) -> MetricRow:
    """Build the row of one metric; without a verdict it is shown and not judged.

    Samples that can't be summarised show no value; the verdict says why.
    """
    view = evidence.baseline
    try:
        numbers = compare(evidence)
    except ValueError:
        numbers = None
    return MetricRow(
        check=evidence.check,
        summary=numbers.current if numbers else None,
        baseline=numbers.baseline if numbers else None,
        change=numbers.change if numbers else None,
        baseline_sessions=numbers.baseline_sessions if numbers else 0,
        baseline_sources=view.sources if view is not None and view.status == "ok" else (),
        samples=evidence.samples,
        verdict=verdict,
    )
