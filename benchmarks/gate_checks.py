"""Single checks: how often the paired rule calls and passes them under each regime's noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from gate_regimes import REGIMES, TURNS, TURNS_BUSY, Floats, differences
from gate_tables import Mean, Rate, Report
from numpy.typing import ArrayLike, NDArray

from pytest_llmperf.stats.paired import CLIP_MIN, Look, Zone, clip_floor, look, may_be_called

ALPHA, BETA, TOLERANCE = 0.01, 0.05, 0.05
LOG_PASS = math.log(1.0 / BETA)
ZONE = Zone.of(TOLERANCE)
#: First and last look, in pairs.
FIRST, MAX = 3, 40
#: Tolerances for pairs in turns of tokens, and slowdowns as multiples of a tolerance.
SMALL, SHARES = (0.02, 0.03), (0.0, 0.5, 1.0, 1.25, 2.0)
EFFECTS = (0.0, 0.01, 0.025, 0.05, 0.075, 0.10)

#: Noise of pairs for ``evidence``: its shape, and its scale on the log scale.
SHAPES: tuple[tuple[str, Callable[[np.random.Generator, tuple[int, int]], Floats]], ...] = (
    ("Gaussian", lambda rng, shape: rng.normal(0.0, 1.0, shape)),
    ("Student's t, 3 df", lambda rng, shape: rng.standard_t(3, shape)),
    ("Laplace", lambda rng, shape: rng.laplace(0.0, 1.0, shape)),
)
SPREAD = 0.3


@dataclass(frozen=True)
class Settings:
    """How much to simulate.

    Attributes:
        repetitions: per cell of a table.
        seed: of all random numbers.
        iterations: counted iterations per process, where a part does not vary them.
    """

    repetitions: int
    seed: int
    iterations: int = 3

    def rng(self, *part: int) -> np.random.Generator:
        """Return the generator of one cell, which does not depend on which other cells were run."""
        return np.random.default_rng((self.seed, *part))


class Ruling(IntEnum):
    """Decision from the evidence so far."""

    UNDECIDED = 0
    WORSE = 1
    FINE = 2


@dataclass(frozen=True)
class Outcomes:
    """Outcome of each repetition, all arrays of shape (repetitions,).

    Attributes:
        decision: a Ruling; UNDECIDED is inconclusive.
        pairs: pairs measured until then.
    """

    decision: NDArray[np.int64]
    pairs: NDArray[np.int64]

    def rate(self, decision: Ruling) -> Rate:
        """Return the share of repetitions with this decision."""
        return Rate(int((self.decision == decision).sum()), len(self.decision))

    def pairs_to(self, decision: Ruling) -> Floats:
        """Return the pairs of the repetitions with this decision."""
        some: Floats = self.pairs[self.decision == decision].astype(np.float64)
        return some


def decide(
    look: Look,
    log_worse_max: ArrayLike,
    log_fine_max: ArrayLike,
    log_alarm: ArrayLike,
    log_pass: ArrayLike,
    zone: Zone,
) -> NDArray[np.intp]:
    """Return ``Ruling`` values from the largest ln E seen so far; everything broadcasts.

    ``log_alarm`` and ``log_pass``: the ln E to reach, ln(m / alpha) and ln(1 / beta) or
    Holm's version of them. Where both are reached, the alarm counts.
    """
    worse = (np.asarray(log_worse_max) >= log_alarm) & may_be_called(look, zone)
    fine = np.asarray(log_fine_max) >= log_pass
    return np.where(
        worse,
        Ruling.WORSE,
        np.where(fine, Ruling.FINE, Ruling.UNDECIDED),
    )


def judge(
    d: Floats,
    *,
    log_alarm: float,
    log_pass: float = LOG_PASS,
    looks: Sequence[int] = range(FIRST, MAX + 1),
    clip_min: float = CLIP_MIN,
    zone: Zone = ZONE,
) -> Outcomes:
    """Judge every row of ``d`` (repetitions, pairs) after each number of pairs in ``looks``.

    Makes the same calls as the gate: clip and summarise again at each look, keep the
    largest evidence so far, decide.
    """
    decision = np.zeros(len(d), dtype=np.int64)
    pairs = np.full(len(d), looks[-1], dtype=np.int64)
    waiting = np.arange(len(d))
    worse = fine = np.zeros(len(d))
    for n in looks:
        now = look(d[waiting, :n], zone, clip_min)
        worse = np.maximum(worse, now.log_e_worse)
        fine = np.maximum(fine, now.log_e_fine)
        rulings = decide(now, worse, fine, log_alarm, log_pass, zone)
        decided = rulings != Ruling.UNDECIDED
        decision[waiting[decided]] = rulings[decided]
        pairs[waiting[decided]] = n
        waiting, worse, fine = waiting[~decided], worse[~decided], fine[~decided]
        if not len(waiting):
            break
    return Outcomes(decision, pairs)


def shown_pairs(values: Floats) -> str:
    """Return a cell with the mean, its standard error and the 90th percentile."""
    if not len(values):
        return "-"
    return f"{Mean.of(values)}/{np.percentile(values, 90):.0f}"


HEAD = (
    "regime",
    "slower",
    "regressed %",
    "passed %",
    "inconclusive %",
    "pairs to pass",
    "to regressed",
)


def row(name: str, effect: float, outcomes: Outcomes) -> tuple[object, ...]:
    """Return one line of a table with ``HEAD``."""
    return (
        name,
        f"{effect:.1%}",
        outcomes.rate(Ruling.WORSE),
        outcomes.rate(Ruling.FINE),
        outcomes.rate(Ruling.UNDECIDED),
        shown_pairs(outcomes.pairs_to(Ruling.FINE)),
        shown_pairs(outcomes.pairs_to(Ruling.WORSE)),
    )


def run(report: Report, settings: Settings) -> None:
    """Print the operating characteristics of one check, with 3 and with 4 iterations."""
    log_alarm = math.log(1.0 / ALPHA)
    for iterations in (3, 4):
        rows = []
        for number, regime in enumerate(REGIMES):
            rng = settings.rng(1, iterations, number)
            noise = differences(rng, regime, settings.repetitions, MAX, iterations)
            for effect in EFFECTS:
                outcomes = judge(noise + math.log1p(effect), log_alarm=log_alarm)
                rows.append(row(regime.name if effect == 0.0 else "", effect, outcomes))
                if iterations == settings.iterations and effect == 0.0:
                    _require_pairs(report, regime.name, outcomes)
        report.table(
            f"One check alone: median of {iterations} iterations per process, alpha {ALPHA}, "
            f"{settings.repetitions} repetitions",
            HEAD,
            rows,
        )
        report.note("rates with 95% binomial intervals; pairs: mean ± standard error / 90th %")


def _require_pairs(report: Report, regime: str, outcomes: Outcomes) -> None:
    limit = {"quiet": 5.0, "noisy": 7.0}.get(regime)
    if limit is not None:
        what = f"one check, unchanged, {regime}: passes within {limit:.0f} pairs on average"
        report.at_most(what, Mean.of(outcomes.pairs_to(Ruling.FINE)), limit)


def small_tolerances(report: Report, settings: Settings) -> None:
    """Print the operating characteristics at small tolerances, of pairs in turns of tokens."""
    log_alarm = math.log(1.0 / ALPHA)
    for tolerance in SMALL:
        rows, zone, floor = [], Zone.of(tolerance), clip_floor(tolerance)
        for number, regime in enumerate((*TURNS, TURNS_BUSY)):
            rng = settings.rng(10, number)
            noise = differences(rng, regime, settings.repetitions, MAX, settings.iterations)
            for share in SHARES:
                d = noise + math.log1p(share * tolerance)
                outcomes = judge(d, log_alarm=log_alarm, clip_min=floor, zone=zone)
                rows.append(row(regime.name if not share else "", share * tolerance, outcomes))
                what = f"tolerance {tolerance:.0%}, {regime.name}"
                if share == 0.0:
                    false = outcomes.rate(Ruling.WORSE)
                    report.at_most(f"{what}: false regressed in <= 1%", false, ALPHA)
                if regime is TURNS_BUSY:
                    continue
                if share == 0.0:
                    report.at_least(f"{what}: passed in >= 95%", outcomes.rate(Ruling.FINE), 0.95)
                if share == 1.25:
                    called = outcomes.rate(Ruling.WORSE)
                    report.at_least(f"{what}: {share:g} times it called in >= 95%", called, 0.95)
        report.table(
            f"One check at a tolerance of {tolerance:.0%}, {settings.repetitions} repetitions",
            HEAD,
            rows,
        )


def evidence(report: Report, settings: Settings) -> None:
    """Print how often evidence alone misleads at a huge spread, where no other rule protects.

    The true mean lies on the boundary; the spread is so large that the least mean that may be
    called does not matter, and that noise of any shape is clipped.
    """
    count = 4 * settings.repetitions
    rows = []
    for number, (name, draw) in enumerate(SHAPES):
        d = SPREAD * draw(settings.rng(9, number), (count, MAX))
        alarm = judge(d + ZONE.negligible, log_alarm=math.log(1.0 / ALPHA), log_pass=math.inf)
        fine = judge(d + ZONE.tolerance, log_alarm=math.inf)
        rates = alarm.rate(Ruling.WORSE), fine.rate(Ruling.FINE)
        rows.append((name, *rates))
        report.at_most(f"{name}, spread {SPREAD}: evidence of 1/alpha in <= 1%", rates[0], ALPHA)
        report.at_most(f"{name}, spread {SPREAD}: evidence of 1/beta in <= 5%", rates[1], BETA)
    report.table(
        f"Evidence at the boundary, spread {SPREAD} of a pair, {count} repetitions",
        ("noise", f"E0 >= {1.0 / ALPHA:.0f} %", f"E1 >= {1.0 / BETA:.0f} %"),
        rows,
    )
