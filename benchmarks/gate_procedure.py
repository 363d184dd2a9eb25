"""The whole procedure: screen against K stored sessions, confirm the suspects on pairs.

One session of 60 checks: each has K stored sessions and one new one, of 3 processes each.
The prediction interval passes a check or makes it a suspect; suspects get fresh interleaved
pairs, on which they alone share alpha. "alone" is what the stored sessions decide where no
pairs can be measured: called only where even the fastest new process is too slow, because
a stall that covers two of three processes moves their median.
"""

from __future__ import annotations

import math

import numpy as np
from gate_checks import ALPHA, BETA, TOLERANCE, ZONE, Ruling, Settings
from gate_regimes import REGIMES, Bools, Floats, Regime, session_processes
from gate_sessions import CHECKS, independent, simulate
from gate_tables import Mean, Rate, Report

from pytest_llmperf.gate.words import change_words
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.stats.holm import alarm_levels
from pytest_llmperf.stats.prediction import Prediction, decides_from, passes_up_to, predict

STORED = (1, 3, 10)
PROCESSES = 3
EFFECTS = (0.0, 0.05, 0.075, 0.10)
LEVEL = 1.0 - BETA
#: This many checks of a session are slower, so that alpha is shared as in real use.
SLOW = 6

HEAD = (
    "regime, K, slower",
    "screened: pass %",
    "then regressed %",
    "passed in all %",
    "session: false alarm %",
    "pairs",
)
HEAD_ALONE = (
    "regime, K, slower",
    "passed %",
    "regressed %",
    "session: false alarm %",
    "by medians: regressed %",
    "false alarm %",
)


def measured(
    rng: np.random.Generator, regime: Regime, sessions: int, stored: int, iterations: int
) -> tuple[Floats, Floats]:
    """Return stored levels (sessions, CHECKS, stored), and each process of the new session."""
    shape = (sessions, CHECKS, stored + 1)
    processes = session_processes(rng, regime, shape, PROCESSES, iterations)
    return np.median(processes[:, :, :-1], axis=-1), processes[:, :, -1]


def screened(prediction: Prediction, level: Floats) -> Bools:
    """Return which checks pass by screening alone."""
    passed: Bools = prediction.upper(level, LEVEL) < ZONE.tolerance
    return passed


def called(prediction: Prediction, level: Floats, tested: Floats) -> Bools:
    """Return which checks the stored sessions call: p-value of ``tested``, effect of ``level``."""
    p = prediction.p_worse(tested, ZONE.negligible)
    apart = level - prediction.centre >= ZONE.min_called
    # Holm's rule on p-values is e-Holm on evidence of -ln p.
    evidence = -np.log(np.maximum(p, 1e-300))
    worse: Bools = apart & (evidence >= alarm_levels(evidence, ALPHA, apart))
    return worse


def run(report: Report, settings: Settings) -> None:
    """Print the procedure, then the stored sessions by themselves."""
    sessions = max(settings.repetitions // 5, 20)
    rows, rows_alone, reach = [], [], []
    for number, regime in enumerate(REGIMES):
        for place, k in enumerate(STORED):
            rng = settings.rng(3, number, place)
            stored, new = measured(rng, regime, sessions, k, settings.iterations)
            prediction = predict(stored)
            for effect in EFFECTS:
                effects = np.zeros(CHECKS)
                effects[:SLOW] = math.log1p(effect)
                slower = new + effects[:, None]
                name = f"{regime.name}, {k}, {effect:.1%}"
                pairs = _procedure(rng, regime, prediction, slower, effects, settings)
                rows.append((name, *pairs))
                alone = _alone(prediction, slower, effects)
                rows_alone.append((name, *alone))
                if effect == 0.0 and regime.name != "very noisy":
                    _require(report, regime.name, k, pairs[3], alone[2])
            reach.append((f"{regime.name}, {k}", *_reach(prediction)))
    report.table(
        f"Screen against K stored sessions, then confirm on pairs: {CHECKS} checks, {SLOW} of "
        f"them slower, {sessions} sessions a row",
        HEAD,
        rows,
    )
    report.note(
        f"of the {SLOW} slower checks, of all at 0%; passed in all: by screening or on pairs, a "
        "false pass from 5% on\npairs: per check, none where screening passed it"
    )
    report.table("The same sessions where no pairs are possible", HEAD_ALONE, rows_alone)
    report.note("by medians: what would be called if the new session's median were enough")
    report.table(
        "What K stored sessions can decide alone (median of the simulated ones)",
        ("regime, K", "one check: called from", f"one of {CHECKS}: from", "passes up to"),
        reach,
    )
    report.note(
        "called from: a true slowdown of this size moves the median beyond the bar in half of\n"
        "all sessions; passes up to: the largest measured change that passes; where it is faster,\n"
        "even an unchanged measurement does not"
    )


def _procedure(
    rng: np.random.Generator,
    regime: Regime,
    prediction: Prediction,
    new: Floats,
    effects: Floats,
    settings: Settings,
) -> tuple[object, object, object, Rate, object]:
    passed = screened(prediction, np.median(new, axis=-1))
    pair = independent(regime, settings.iterations)
    done = simulate(rng, pair, effects, len(new), in_question=~passed)
    slow = _in_question(effects)
    worse = done.decision[:, slow] == Ruling.WORSE
    fine = passed[:, slow] | (done.decision[:, slow] == Ruling.FINE)
    return (
        Rate(int(passed[:, slow].sum()), worse.size),
        Rate(int(worse.sum()), worse.size),
        Rate(int(fine.sum()), worse.size),
        done.any_worse(effects <= ZONE.negligible),
        Mean.of(done.pairs[:, slow].mean(axis=1)),
    )


def _alone(
    prediction: Prediction, new: Floats, effects: Floats
) -> tuple[Rate, Rate, Rate, Rate, Rate]:
    level = np.median(new, axis=-1)
    passed = screened(prediction, level)[:, _in_question(effects)]
    cells = []
    for tested in (new.min(axis=-1), level):
        worse = called(prediction, level, tested)
        slow = worse[:, _in_question(effects)]
        false = np.count_nonzero(worse[:, effects <= ZONE.negligible].any(axis=1))
        cells += [Rate(int(slow.sum()), slow.size), Rate(int(false), len(worse))]
    return (Rate(int(passed.sum()), passed.size), cells[0], cells[1], cells[2], cells[3])


def _in_question(effects: Floats) -> Bools:
    """Return the checks a row is about: the slower checks, or all if none is slower."""
    slow: Bools = effects > 0.0
    return slow if slow.any() else np.ones(len(effects), dtype=np.bool_)


def _reach(prediction: Prediction) -> tuple[str, ...]:
    least = [decides_from(prediction, TOLERANCE, ALPHA / checks) for checks in (1, CHECKS)]
    passes = float(np.median(passes_up_to(prediction, TOLERANCE, LEVEL)))
    words = change_words(get_metric("first_token"), passes)
    return (*(f"{np.median(cell):.1%}" for cell in least), words)


def _require(report: Report, regime: str, k: int, confirmed: Rate, alone: Rate) -> None:
    for how, rate in (("screen and pairs", confirmed), ("stored alone", alone)):
        what = f"{CHECKS} checks, unchanged, {regime}, {how}, K = {k}: false alarm in <= 1%"
        report.at_most(what, rate, ALPHA)
