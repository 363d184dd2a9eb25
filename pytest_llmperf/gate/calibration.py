"""What repeated sessions of two arms known to be alike, or one planted slower, say of the gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median, stdev
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import badness
from pytest_llmperf.gate.rules import LOG_PASS
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.stats.power import mde, pairs_to_pass
from pytest_llmperf.stats.proportions import binomial_interval
from pytest_llmperf.stats.summary import process_medians

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Samples


@dataclass(frozen=True)
class CheckRun:
    """One check of one session of a calibration.

    Attributes:
        nodeid, metric: which check.
        kind: its verdict.
        effect: the slowdown found, a fraction, or None.
        candidate, base: samples by pair, shape (pairs, iterations), base units.
    """

    nodeid: str
    metric: str
    kind: VerdictKind
    effect: float | None
    candidate: Samples
    base: Samples


@dataclass(frozen=True)
class SessionRun:
    """One session of a calibration.

    Attributes:
        seconds: wall time of its measure stage.
        checks: every gated check.
        pairs: pairs of each test, by node id.
        void: pairs that had to be left out.
    """

    seconds: float
    checks: tuple[CheckRun, ...]
    pairs: dict[str, int] = field(default_factory=dict)
    void: int = 0

    @property
    def fit(self) -> bool:
        """Whether it may be counted: the machine was fit, and every check could be measured."""
        unfit = (VerdictKind.INVALID, VerdictKind.ERROR)
        return bool(self.checks) and not any(check.kind in unfit for check in self.checks)

    @property
    def alarmed(self) -> bool:
        """Whether any check was called."""
        return any(check.kind is VerdictKind.REGRESSED for check in self.checks)


@dataclass(frozen=True)
class Noise:
    """How much equal things differ, as standard deviations of logarithms (0.01 is 1%).

    Attributes:
        within: iterations of one process.
        between: processes' medians of one session.
        pair: differences of the two processes of a pair.
        runs: levels of one session and the next, in this calibration; None below two.
        sessions: levels of recorded sessions and earlier calibrations; None below two.
        session_count: how many of those there are.
    """

    within: float
    between: float
    pair: float
    runs: float | None
    sessions: float | None = None
    session_count: int = 0


@dataclass(frozen=True)
class Rate:
    """A count out of a count, with its exact 95% interval."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper-Pearson."""
        return binomial_interval(self.count, self.of)


@dataclass(frozen=True)
class CheckCalibration:
    """What a calibration found of one check.

    Attributes:
        nodeid, metric: which check.
        noise: of the arm that nothing was planted in.
        level: its median over sessions, base unit.
        called: sessions that called it ``regressed``.
        passed: sessions that passed it.
        effect: median slowdown found, a fraction, or None.
        pairs: pairs that fit into the budget, at most the configured most.
        mde: smallest slowdown that so many pairs call in nine of ten sessions.
        pairs_to_pass: pairs after which half of unchanged sessions pass; None if never.
    """

    nodeid: str
    metric: str
    noise: Noise
    level: float
    called: Rate
    passed: Rate
    effect: float | None
    pairs: int
    mde: float
    pairs_to_pass: int | None


@dataclass(frozen=True)
class Calibration:
    """The outcome.

    Attributes:
        sessions: every session that ran, unfit ones included.
        checks: per check, over the fit sessions.
        alarms: fit sessions in which any check was called.
        plant: what was planted in words, or empty: an A/A run.
        tolerance: the widest tolerance among the checks, a fraction.
        alpha: the session's false-alarm rate.
    """

    sessions: tuple[SessionRun, ...]
    checks: tuple[CheckCalibration, ...]
    alarms: Rate
    plant: str
    alpha: float

    @property
    def unfit(self) -> int:
        """Sessions left out."""
        return sum(not session.fit for session in self.sessions)

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Shortest, median and longest session, seconds; zeros where none was fit."""
        times = sorted(session.seconds for session in self.sessions if session.fit)
        return (times[0], median(times), times[-1]) if times else (0.0, 0.0, 0.0)

    @property
    def pairs(self) -> tuple[int, float, int]:
        """Fewest, mean and most pairs of a test in a fit session."""
        counts = [n for one in self.sessions if one.fit for n in one.pairs.values()]
        return (min(counts), mean(counts), max(counts)) if counts else (0, 0.0, 0)


def calibrate(
    sessions: Sequence[SessionRun],
    *,
    tolerances: dict[tuple[str, str], float],
    pairs_in_budget: int,
    alpha: float,
    plant: str = "",
    earlier: Mapping[tuple[str, str], Sequence[float]] | None = None,
) -> Calibration:
    """Reduce the sessions of a calibration to noise, rates and plans.

    Args:
        sessions: in the order they ran.
        tolerances: of each check, by node id and metric.
        pairs_in_budget: pairs that the time budget leaves each test.
        alpha: the session's false-alarm rate.
        plant: what was planted, in words.
        earlier: levels (base unit) of recorded sessions and earlier calibrations.
    """
    fit = [session for session in sessions if session.fit]
    keys = list(dict.fromkeys((c.nodeid, c.metric) for one in fit for c in one.checks))
    log_alarm = math.log(max(len(keys), 1) / alpha)
    checks = []
    for key in keys:
        runs = [c for one in fit for c in one.checks if (c.nodeid, c.metric) == key and c.base]
        if runs and get_metric(key[1]).kind != "share":
            checks.append(
                _check(
                    key, runs, tolerances[key], pairs_in_budget, log_alarm, (earlier or {}).get(key)
                )
            )
    alarms = Rate(sum(session.alarmed for session in fit), len(fit))
    return Calibration(tuple(sessions), tuple(checks), alarms, plant, alpha)


def _check(
    key: tuple[str, str],
    runs: Sequence[CheckRun],
    tolerance: float,
    pairs: int,
    log_alarm: float,
    earlier: Sequence[float] | None,
) -> CheckCalibration:
    noise = _noise(key[1], runs, earlier or ())
    effects = [run.effect for run in runs if run.effect is not None]
    passed = sum(run.kind in (VerdictKind.PASS, VerdictKind.IMPROVED) for run in runs)
    return CheckCalibration(
        nodeid=key[0],
        metric=key[1],
        noise=noise,
        level=median(_level(run.base) for run in runs),
        called=Rate(sum(run.kind is VerdictKind.REGRESSED for run in runs), len(runs)),
        passed=Rate(passed, len(runs)),
        effect=median(effects) if effects else None,
        pairs=pairs,
        mde=mde(noise.pair, pairs, log_alarm, tolerance) if pairs >= 1 else math.inf,
        pairs_to_pass=pairs_to_pass(noise.pair, LOG_PASS, tolerance),
    )


def _noise(name: str, runs: Sequence[CheckRun], earlier: Sequence[float]) -> Noise:
    metric = get_metric(name)
    bases = [[badness(metric, value) for value in process_medians(run.base)] for run in runs]
    differences = [
        [
            badness(metric, value) - base
            for value, base in zip(process_medians(run.candidate), bs, strict=True)
        ]
        for run, bs in zip(runs, bases, strict=True)
    ]
    levels = [median(values) for values in bases]
    over_days = [badness(metric, value) for value in earlier]
    if over_days:
        over_days.append(median(levels))
    return Noise(
        within=_pooled_sd(
            [badness(metric, value) for value in row] for run in runs for row in run.base
        ),
        between=_pooled_sd(bases),
        pair=_pooled_sd(differences),
        runs=stdev(levels) if len(levels) > 1 else None,
        sessions=stdev(over_days) if len(over_days) > 1 else None,
        session_count=len(over_days),
    )


def _pooled_sd(groups: Iterable[Sequence[float]]) -> float:
    """Robust standard deviation inside groups, from the steps between neighbours.

    1.4826 / sqrt(2) times the median step: right for Gaussian values whatever the size
    of the groups, and untouched by a slow drift or a stall now and then.
    """
    steps = [abs(b - a) for group in groups for a, b in pairwise(group)]
    return 1.4826 / math.sqrt(2.0) * median(steps) if steps else 0.0


def _level(rows: Samples) -> float:
    return median(process_medians(rows))
