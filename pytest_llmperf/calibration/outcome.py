"""Summarises repeated sessions with equal sides or a planted slowdown: rates and noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import TYPE_CHECKING

from pytest_llmperf.calibration.noise import Noise, noise_of
from pytest_llmperf.gate.rules import LOG_PASS
from pytest_llmperf.gate.sequential import first_look
from pytest_llmperf.gate.stalls import rate
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.metrics import get_metric, percentile_parts
from pytest_llmperf.stats.paired import mde, smallest_tolerance
from pytest_llmperf.stats.proportions import binomial_interval
from pytest_llmperf.stats.summary import process_medians

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Samples

#: Session lengths, in seconds, for which the smallest tolerance is reported.
SESSIONS_OF = (60.0, 300.0)
#: Quantities that a slower decode affects; first token and prefill are not among them.
_WITH_DECODE = frozenset({"decode", "inter_token", "end_to_end", "stall_rate"})


@dataclass(frozen=True)
class CheckRun:
    """One check of one session of a calibration.

    Attributes:
        nodeid, metric: which check.
        kind: its verdict.
        effect: the slowdown found, a fraction, or None.
        candidate, base: samples in base units, one row per pair, shape (pairs, iterations); a
            percentile has one row per group of pairs, a stall rate 1 (stalled) or 0.
        row_size: number of pairs that make one row.
        differences: the pairs' differences, as in ``Pairs``.
    """

    nodeid: str
    metric: str
    kind: VerdictKind
    effect: float | None
    candidate: Samples
    base: Samples
    row_size: int = 1
    differences: tuple[float, ...] | None = None

    @property
    def is_regressed(self) -> bool:
        """Whether it was called ``regressed``."""
        return self.kind is VerdictKind.REGRESSED

    @property
    def includes_decode(self) -> bool:
        """Whether decode is part of what it measures."""
        source, _ = percentile_parts(self.metric) or (self.metric, 0.0)
        return get_metric(source).quantity in _WITH_DECODE


@dataclass(frozen=True)
class SessionRun:
    """One session of a calibration.

    Attributes:
        seconds: wall time of its measure stage.
        checks: every gated check.
        pairs: pairs of each test, by node id.
        void: number of pairs that had to be left out.
        unfit_because: the first test that makes the session unusable, and the reason.
    """

    seconds: float
    checks: tuple[CheckRun, ...]
    pairs: dict[str, int] = field(default_factory=dict)
    void: int = 0
    unfit_because: str = ""

    @property
    def fit(self) -> bool:
        """Whether it counts: the machine was fit, and every check could be measured."""
        unfit = (VerdictKind.INVALID, VerdictKind.ERROR)
        return bool(self.checks) and not any(check.kind in unfit for check in self.checks)

    def has_regressed(self, *, decode: bool | None = None) -> bool:
        """Whether any check regressed; optionally only of those with (or without) decode."""
        asked = (True, False) if decode is None else (decode,)
        return any(check.is_regressed for check in self.checks if check.includes_decode in asked)


@dataclass(frozen=True)
class Rate:
    """A number of events among trials, with its exact 95% interval."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95% interval (Clopper-Pearson)."""
        return binomial_interval(self.count, self.of)


@dataclass(frozen=True)
class CheckCalibration:
    """Results of a calibration for one check.

    Attributes:
        nodeid, metric: which check.
        noise: of the side without a planted slowdown.
        level: the metric's median over sessions, in base units.
        tolerance: the slowdown that must be caught, a fraction.
        regressed: sessions that called it ``regressed``.
        passed: sessions that passed it.
        effect: median slowdown found, a fraction, or None.
        rows: pairs that fit into the budget, at most the configured maximum; for a
            percentile the groups of pairs.
        row_size: pairs that make one of ``rows``.
        mde: smallest slowdown that ``rows`` detect in nine of ten sessions; infinite if none.
        holds: by session length in seconds, the smallest tolerance that it allows, or None.
    """

    nodeid: str
    metric: str
    noise: Noise
    level: float
    tolerance: float
    regressed: Rate
    passed: Rate
    effect: float | None
    rows: int
    row_size: int
    mde: float
    holds: Mapping[float, float | None]


@dataclass(frozen=True)
class StallCalibration:
    """Results of a calibration for one stall rate.

    Attributes:
        nodeid, metric: which check.
        candidate, base: share of stalled iterations of either side, all sessions together.
        tolerance: the increase of the share that must be caught.
        regressed: sessions that called it ``regressed``.
        passed: sessions that passed it.
    """

    nodeid: str
    metric: str
    candidate: float
    base: float
    tolerance: float
    regressed: Rate
    passed: Rate


@dataclass(frozen=True)
class Calibration:
    """The outcome of a calibration.

    Attributes:
        sessions: every session that ran, unfit ones included.
        checks: per check, over the fit sessions.
        stalls: per check of a stall rate, over the fit sessions.
        alarms: fit sessions in which any check was called; with a planted slowdown, any
            check with decode in it.
        false_alarms_elsewhere: with a planted slowdown, fit sessions in which any other check was
            called. None where there is no such check, or nothing planted.
        plant: the planted slowdown in words; empty for an A/A run.
        alpha: the session's false-alarm rate.
        unit: noun for the source of a sample: ``process``, or ``block`` of a running server.
    """

    sessions: tuple[SessionRun, ...]
    checks: tuple[CheckCalibration, ...]
    stalls: tuple[StallCalibration, ...]
    alarms: Rate
    false_alarms_elsewhere: Rate | None
    plant: str
    alpha: float
    unit: str = "process"

    @property
    def unfit(self) -> int:
        """Number of sessions left out."""
        return sum(not session.fit for session in self.sessions)

    @property
    def unfit_because(self) -> str:
        """Why the last session left out was left out; empty if none was."""
        return next((s.unfit_because for s in reversed(self.sessions) if not s.fit), "")

    @property
    def seconds(self) -> tuple[float, float, float]:
        """Shortest, median and longest session, seconds; zeros if none was fit."""
        times = sorted(session.seconds for session in self.sessions if session.fit)
        return (times[0], median(times), times[-1]) if times else (0.0, 0.0, 0.0)

    @property
    def pairs(self) -> tuple[int, float, int]:
        """Minimum, mean and maximum number of pairs of a test in a fit session."""
        counts = [n for session in self.sessions if session.fit for n in session.pairs.values()]
        return (min(counts), mean(counts), max(counts)) if counts else (0, 0.0, 0)


def calibrate(
    sessions: Sequence[SessionRun],
    *,
    tolerances: Mapping[tuple[str, str], float],
    pairs_in_budget: int,
    alpha: float,
    plant: str = "",
    earlier: Mapping[tuple[str, str], Sequence[float]] | None = None,
    max_pairs: int | None = None,
    unit: str = "process",
) -> Calibration:
    """Reduce the sessions of a calibration to noise, rates and plans.

    Args:
        sessions: in the order they ran.
        tolerances: each check's tolerance, by node id and metric.
        pairs_in_budget: pairs that the time budget leaves each test.
        alpha: the session's false-alarm rate.
        plant: the planted slowdown in words.
        earlier: levels (base unit) of recorded sessions and earlier calibrations.
        max_pairs: pairs after which any session ends; None for no limit.
        unit: noun for the source of a sample.
    """
    fit = [session for session in sessions if session.fit]
    by_key: dict[tuple[str, str], list[CheckRun]] = {}
    for run in (run for session in fit for run in session.checks):
        by_key.setdefault((run.nodeid, run.metric), []).append(run)
    log_alarm = math.log(max(len(by_key), 1) / alpha)
    checks, stalls = [], []
    # Every test has one pair per round.
    rounds = [s.seconds / max(s.pairs.values()) for s in fit if any(s.pairs.values())]
    round_seconds = median(rounds) if rounds else math.inf
    pairs_of = {seconds: int(seconds / round_seconds) for seconds in SESSIONS_OF}
    if max_pairs is not None:
        pairs_of = {seconds: min(pairs, max_pairs) for seconds, pairs in pairs_of.items()}
    for key, all_runs in by_key.items():
        runs = [run for run in all_runs if run.base]
        if runs and get_metric(key[1]).kind == "share":
            stalls.append(_stalls(key, runs, tolerances[key]))
        elif runs:
            known = (earlier or {}).get(key, ())
            checks.append(
                _check(key, runs, tolerances[key], pairs_in_budget, log_alarm, known, pairs_of)
            )
    caught = [session.has_regressed(decode=True) for session in fit]
    others = [session.has_regressed(decode=False) for session in fit]
    alarmed = caught if plant else [session.has_regressed() for session in fit]
    apart = bool(plant) and any(
        not run.includes_decode for session in fit for run in session.checks
    )
    return Calibration(
        sessions=tuple(sessions),
        checks=tuple(checks),
        stalls=tuple(stalls),
        alarms=Rate(sum(alarmed), len(fit)),
        false_alarms_elsewhere=Rate(sum(others), len(fit)) if apart else None,
        plant=plant,
        alpha=alpha,
        unit=unit,
    )


def _check(
    key: tuple[str, str],
    runs: Sequence[CheckRun],
    tolerance: float,
    pairs: int,
    log_alarm: float,
    earlier: Sequence[float],
    pairs_of: Mapping[float, int],
) -> CheckCalibration:
    noise = noise_of(key[1], [(run.candidate, run.base, run.differences) for run in runs], earlier)
    effects = [run.effect for run in runs if run.effect is not None]
    size, first = max(run.row_size for run in runs), first_look(get_metric(key[1]))
    resolution = get_metric(key[1]).resolution
    rows = pairs // size
    regressed, passed = _rates(runs)
    return CheckCalibration(
        nodeid=key[0],
        metric=key[1],
        noise=noise,
        level=median(median(process_medians(run.base, resolution)) for run in runs),
        tolerance=tolerance,
        regressed=regressed,
        passed=passed,
        effect=median(effects) if effects else None,
        rows=rows,
        row_size=size,
        mde=mde(noise.pair, rows, log_alarm, tolerance) if rows >= first else math.inf,
        holds={
            seconds: smallest_tolerance(noise.pair, count // size, log_alarm, LOG_PASS)
            for seconds, count in pairs_of.items()
        },
    )


def _stalls(key: tuple[str, str], runs: Sequence[CheckRun], tolerance: float) -> StallCalibration:
    regressed, passed = _rates(runs)
    return StallCalibration(
        nodeid=key[0],
        metric=key[1],
        candidate=rate(tuple(row for run in runs for row in run.candidate)),
        base=rate(tuple(row for run in runs for row in run.base)),
        tolerance=tolerance,
        regressed=regressed,
        passed=passed,
    )


def _rates(runs: Sequence[CheckRun]) -> tuple[Rate, Rate]:
    """Return the rates of sessions that called a check, and that passed it."""
    passed = sum(run.kind in (VerdictKind.PASS, VerdictKind.IMPROVED) for run in runs)
    return Rate(sum(run.is_regressed for run in runs), len(runs)), Rate(passed, len(runs))
