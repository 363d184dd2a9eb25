"""Drift and carry-over: what randomised blocks cancel, and whether a look in mid-block harms.

The two pairs of an ABBA block depend on each other: what makes one difference too large
makes the other too small. Here the machine slows down gradually, and the second process of
each pair is slower than the first, in both sides alike: nothing has changed.
"""

from __future__ import annotations

import math

from gate_checks import ALPHA, FIRST, HEAD, MAX, Ruling, Settings, judge, row
from gate_regimes import REGIMES, Drift, differences
from gate_tables import Report

DRIFTS = (
    ("none", Drift()),
    ("1.5% carry-over", Drift(carry_over=0.015)),
    ("0.2% a process", Drift(per_process=0.002)),
    ("both", Drift(per_process=0.002, carry_over=0.015)),
)
ORDERS = (
    ("fixed AB, every pair", True, range(FIRST, MAX + 1)),
    ("blocks, every pair", False, range(FIRST, MAX + 1)),
    ("blocks, whole blocks", False, range(4, MAX + 1, 2)),
)
SHOWN = ("gpu", "quiet", "noisy")
EFFECTS = (0.0, 0.01, 0.05)


def run(report: Report, settings: Settings) -> None:
    """Print one table per regime; require that looking after each pair does no harm."""
    log_alarm = math.log(1.0 / ALPHA)
    for number, regime in enumerate(REGIMES):
        if regime.name not in SHOWN:
            continue
        rows = []
        for place, (what, drift) in enumerate(DRIFTS):
            for how, fixed, looks in ORDERS:
                # The two ways of looking at blocks see the same noise.
                rng = settings.rng(8, number, place, int(fixed))
                noise = differences(
                    rng,
                    regime,
                    settings.repetitions,
                    MAX,
                    settings.iterations,
                    drift=drift,
                    fixed=fixed,
                )
                for effect in EFFECTS:
                    outcomes = judge(noise + math.log1p(effect), log_alarm=log_alarm, looks=looks)
                    name = f"{what}, {how}" if effect == 0.0 else ""
                    rows.append(row(name, effect, outcomes))
                    if how == "blocks, every pair" and effect <= 0.01:
                        report.at_most(
                            f"one check, drift {what}, {effect:.0%}, {regime.name}, looks in "
                            "mid-block: false alarm <= 1%",
                            outcomes.rate(Ruling.WORSE),
                            ALPHA,
                        )
        report.table(
            f"Order of processes, {regime.name}, one check, {settings.repetitions} repetitions",
            ("drift, order", *HEAD[1:]),
            rows,
        )
