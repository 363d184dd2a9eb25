"""What a verdict is about: the check a test asks for, and the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmperf.baselines.evidence import BaselineSamples
    from pytest_llmperf.metrics import Metric

#: Samples of one session in the metric's base unit, shape (processes, iterations).
Samples = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Check:
    """One metric of one test, and what it is held to.

    Attributes:
        metric: what is measured; its direction decides what is worse.
        limit: the target in the metric's base unit, or None to gate against the
            baseline only.
        tolerance: largest accepted slowdown against the baseline (0.05 = 5%).
        gated: False for metrics that are shown only, to locate a loss.
        asked: a marker of the test names the metric; the others are defaults, which a
            workload may leave undefined.
    """

    metric: Metric
    limit: float | None
    tolerance: float
    gated: bool = True
    asked: bool = True


@dataclass(frozen=True)
class Pairs:
    """Two sides that ran interleaved in this session; row i of both is pair i.

    Attributes:
        candidate: base units, shape (pairs, iterations).
        base: the same of the side it is compared with.
        name: what names that side to a reader, such as ``other.yaml``.
        seconds: wall time of one pair of this test, or None where unknown.
        beside: of each pair, whether its processes took turns iteration by iteration, so that
            iteration j of both ran one right after the other; empty where none did.
    """

    candidate: Samples
    base: Samples
    name: str
    seconds: float | None = None
    beside: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Everything one verdict may rest on.

    Attributes:
        nodeid: the test.
        check: what is judged.
        samples: this session's samples, shape (processes, iterations); empty
            where nothing was measured.
        planned_processes: the fewest processes (or pairs) a verdict may rest on.
        baseline: earlier sessions, or None where there are none.
        pairs: the interleaved sides, which then decide instead of the baseline.
        invalid: why the machine or the measurement was not fit to judge.
        error: why the test could not be measured at all.
        budget_reached: the time budget ended the measuring.
        budget_seconds: that budget in seconds, where known.
        own_budget: it was the test's own, not the session's.
        row_size: processes (or pairs) that make one row of samples; more than one for a
            percentile that one can't supply.
        exhausted: the most processes (or pairs) were measured: no more will come.
        ended: the measure stage is over: nothing more will come, for whatever reason.
        stalls: iterations that stalled, this side and then the base side's.
        void: processes (or pairs) that were measured and had to be left out.
        seconds: wall time of one process of this test, or None where unknown.
        alarm_share: of the session's false-alarm rate, what this check's comparison may use.
        missed_share: the same for its target.
        same_as: the stored session that measured the very same code, configuration, packages,
            engine and model, so that only the machine can have made a difference; or empty.
    """

    nodeid: str
    check: Check
    samples: Samples
    planned_processes: int
    baseline: BaselineSamples | None = None
    pairs: Pairs | None = None
    invalid: tuple[str, ...] = ()
    error: str | None = None
    budget_reached: bool = False
    budget_seconds: float | None = None
    own_budget: bool = False
    row_size: int = 1
    exhausted: bool = False
    ended: bool = False
    stalls: tuple[int, ...] = ()
    void: int = 0
    seconds: float | None = None
    alarm_share: float = 0.01
    missed_share: float = 0.01
    same_as: str = ""
