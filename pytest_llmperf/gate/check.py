"""Checks of a test and the evidence for them, the input of a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmperf.baselines.samples import BaselineSamples
    from pytest_llmperf.baselines.tolerances import CalibratedTolerance
    from pytest_llmperf.metrics import Metric

#: Samples of one session in the metric's base unit, shape (processes, iterations).
Samples = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Check:
    """One metric of one test, with its limit and tolerance.

    Attributes:
        metric: the measured metric; its direction says which way is worse.
        limit: the target in the metric's base unit, or None to judge by the baseline
            only.
        tolerance: largest accepted slowdown against the baseline (0.05 = 5%).
        gated: False for metrics that are only shown, to locate a slowdown.
        asked: a marker of the test names the metric; False for default metrics, which a
            workload may leave undefined.
        auto: the tolerance comes from a calibration, or is the default until there is one.
        calibrated: the calibrated tolerance that ``tolerance`` was taken from, or None.
    """

    metric: Metric
    limit: float | None
    tolerance: float
    gated: bool = True
    asked: bool = True
    auto: bool = False
    calibrated: CalibratedTolerance | None = None


@dataclass(frozen=True)
class Pairs:
    """Two sides that ran interleaved in this session; row i of both is pair i.

    Attributes:
        candidate: base units, shape (pairs, iterations).
        base: the same for the base side.
        name: the base side's name for readers, such as ``other.yaml``.
        seconds: wall time of one pair of this test, or None where unknown.
        differences: difference of each pair on the log scale, positive is worse, as measured in
            turns; None takes the difference of the rows' medians.
        without_turns: the same for the pairs whose processes ran one after the other, while the
            others took turns; None if no pair took turns.
    """

    candidate: Samples
    base: Samples
    name: str
    seconds: float | None = None
    differences: tuple[float, ...] | None = None
    without_turns: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Evidence:
    """Measurements and conditions that a verdict is based on.

    Attributes:
        nodeid: the test.
        check: the check to judge.
        samples: this session's samples, shape (processes, iterations); empty
            where nothing was measured.
        planned_processes: the minimum number of processes (or pairs) for a verdict.
        baseline: earlier sessions, or None if there are none.
        pairs: the interleaved sides; if given, they decide instead of the baseline.
        invalid: why the machine or the measurement cannot be judged.
        error: why the test could not be measured at all.
        budget_reached: the time budget ended the measuring.
        budget_seconds: that budget in seconds, if known.
        own_budget: the budget was the test's own, not the session's.
        row_size: processes (or pairs) that make one row of samples; more than one for a
            percentile that needs more values than one process has.
        exhausted: the maximum number of processes (or pairs) was measured.
        ended: the measure stage is over, for any reason.
        interrupted: the user ended the session.
        stalls: numbers of stalled iterations, of the candidate and of the base.
        void: number of processes (or pairs) that were measured but left out.
        seconds: wall time of one process of this test, or None if unknown.
        comparison_alpha: this comparison's share of the session's false-alarm rate.
        target_alpha: the target's share of the same rate.
        same_as: the stored session that measured the very same code, configuration, packages,
            engine and model, so that only the machine can explain a difference; or empty.
        disturbed: what disturbed so many processes that their levels, unlike the differences
            within pairs, can't be judged; or empty.
        unit: noun for what one sample comes from, unless that is a pair.
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
    interrupted: bool = False
    stalls: tuple[int, ...] = ()
    void: int = 0
    seconds: float | None = None
    comparison_alpha: float = 0.01
    target_alpha: float = 0.01
    same_as: str = ""
    disturbed: str = ""
    unit: str = "process"
