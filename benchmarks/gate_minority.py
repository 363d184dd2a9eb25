"""A change that hits a minority of iterations: what medians, percentiles and stall rates see.

One iteration in five takes 1.5 times as long, in the candidate only. The median per
process hardly moves. The 95th percentile of the gaps between tokens does, and so does
the share of stalled iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from gate_checks import ALPHA, MAX, Outcomes, Ruling, Settings, judge, shown_pairs
from gate_regimes import REGIMES, Floats, Regime, scattered
from gate_tables import Report

from pytest_llmperf.stats.paired import TAIL_CLIP_MIN, TAIL_FIRST
from pytest_llmperf.stats.percentiles import group_size
from pytest_llmperf.stats.proportions import log_e_sign
from pytest_llmperf.stats.summary import STALL_FACTOR

SHARE, SLOWER = 0.2, math.log(1.5)
PERCENT = 95.0
#: Gaps of one iteration (64 output tokens), and how much one differs from the next (log sd).
GAPS, GAP_SD = 63, 0.03
LOG_ALARM = math.log(1.0 / ALPHA)
#: Repetitions at once: the gaps of 100 take about 12 MiB.
CHUNK = 100
HEAD = (
    "regime, rule",
    "unchanged: called %",
    "passed %",
    "one in five 50% slower: called %",
    "passed %",
    "pairs to call",
)


def iterations_of(
    rng: np.random.Generator, regime: Regime, repetitions: int, iterations: int, share: float
) -> Floats:
    """Return log durations (repetitions, pairs, 2, iterations), the candidate second."""
    values = scattered(rng, regime, (repetitions, MAX, 2), iterations)
    values[:, :, 1] += SLOWER * (rng.random(values[:, :, 1].shape) < share)
    return values


def by_median(rng: np.random.Generator, values: Floats) -> Outcomes:
    """Judge the medians per process."""
    medians = np.median(values, axis=-1)
    return judge(medians[..., 1] - medians[..., 0], log_alarm=LOG_ALARM)


def by_percentile(rng: np.random.Generator, values: Floats) -> Outcomes:
    """Judge the 95th percentile of the gaps, over as many processes as it needs."""
    iterations = values.shape[-1]
    size = group_size(GAPS * iterations, PERCENT)
    groups = MAX // size
    parts = []
    for start in range(0, len(values), CHUNK):
        part = values[start : start + CHUNK, : groups * size]
        gaps = part[..., None] + rng.normal(0.0, GAP_SD, (*part.shape, GAPS))
        count = len(part)
        gaps = gaps.reshape(count, groups, size, 2, iterations * GAPS)
        pooled = gaps.transpose(0, 1, 3, 2, 4).reshape(count, groups, 2, -1)
        parts.append(np.percentile(np.exp(pooled), PERCENT, axis=-1))
    high = np.log(np.concatenate(parts))
    outcomes = judge(
        high[..., 1] - high[..., 0],
        log_alarm=LOG_ALARM,
        looks=range(TAIL_FIRST, groups + 1),
        clip_min=TAIL_CLIP_MIN,
    )
    return Outcomes(outcomes.decision, outcomes.pairs * size)


def by_stalls(rng: np.random.Generator, values: Floats) -> Outcomes:
    """Judge in how many pairs the candidate stalls more often, and less often."""
    medians = np.median(values, axis=-1)
    limit = math.log(STALL_FACTOR)
    decision = np.zeros(len(values), dtype=np.int64)
    pairs = np.full(len(values), MAX, dtype=np.int64)
    wins = losses = np.zeros(len(values), dtype=np.int64)
    for n in range(1, MAX + 1):
        centre = np.median(medians[:, :n].reshape(len(values), -1), axis=1)
        stalls = (values[:, n - 1] > limit + centre[:, None, None]).sum(axis=-1)
        wins = wins + (stalls[:, 1] > stalls[:, 0])
        losses = losses + (stalls[:, 1] < stalls[:, 0])
        fresh = (_sign_table()[wins, losses] >= LOG_ALARM) & (decision == 0)
        decision[fresh], pairs[fresh] = Ruling.WORSE, n
    return Outcomes(decision, pairs)


@lru_cache(maxsize=1)
def _sign_table() -> Floats:
    """Return ln E for every count of wins and losses that 40 pairs can have."""
    return np.array(
        [
            [log_e_sign(w, k) if w + k <= MAX else np.nan for k in range(MAX + 1)]
            for w in range(MAX + 1)
        ]
    )


Rule = Callable[[np.random.Generator, Floats], Outcomes]
RULES: tuple[tuple[str, Rule], ...] = (
    ("median", by_median),
    ("p95 of the gaps", by_percentile),
    ("stall rate", by_stalls),
)
#: Where each rule must call the change; on machines that stall, ask for the stall rate.
MUST_SEE = {
    "p95 of the gaps": ("gpu", "quiet"),
    "stall rate": ("gpu", "quiet", "noisy", "bursty"),
}


def run(report: Report, settings: Settings) -> None:
    """Print what each rule calls; require that the rules in ``MUST_SEE`` catch the change."""
    rows = []
    for number, regime in enumerate(REGIMES):
        rng = settings.rng(5, number)
        noise, slow = (
            iterations_of(rng, regime, settings.repetitions, settings.iterations, share)
            for share in (0.0, SHARE)
        )
        for line, (name, rule) in enumerate(RULES):
            without, with_ = rule(rng, noise), rule(rng, slow)
            caught = with_.rate(Ruling.WORSE)
            rows.append(
                (
                    f"{regime.name if line == 0 else '':<12}{name}",
                    without.rate(Ruling.WORSE),
                    without.rate(Ruling.FINE) if rule is not by_stalls else "-",
                    caught,
                    with_.rate(Ruling.FINE) if rule is not by_stalls else "-",
                    shown_pairs(with_.pairs_to(Ruling.WORSE)),
                )
            )
            if regime.name in MUST_SEE.get(name, ()):
                report.at_least(
                    f"20% of iterations 50% slower, {regime.name}, {name}: called in >= 90%",
                    caught,
                    0.90,
                )
    report.table(
        f"A minority slower: {settings.iterations} iterations of {GAPS} gaps per process, "
        f"alpha {ALPHA}, {settings.repetitions} repetitions",
        HEAD,
        rows,
    )
    report.note("one check alone; the stall rate passes by its own bound, not shown here")
