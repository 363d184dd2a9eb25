"""Simulated sessions of 60 checks that share one declared false-alarm rate by e-Holm.

20 tests of 3 metrics each. After every pair all checks are judged by the largest evidence
so far and by their present mean; a test is measured until its three checks are decided
at once, all tests in step. Two models of the noise: independent checks, and checks that
share the effects of process, test and iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gate_checks import ALPHA, FIRST, LOG_PASS, MAX, ZONE, Ruling, Settings
from gate_regimes import REGIMES, WARMUP, Bools, Floats, Regime, delays, stalled
from gate_tables import Mean, Rate, Report
from numpy.typing import NDArray

from pytest_llmperf.stats.holm import alarm_levels
from pytest_llmperf.stats.paired import look

TESTS, METRICS = 20, 3
CHECKS = TESTS * METRICS
#: Sessions simulated at once: bounds the memory, about 20 MiB.
CHUNK = 500

#: Where the variance between processes comes from when checks are correlated: the process
#: (all its tests), the test (its three metrics), the metric by itself.
PROCESS_SHARES = (0.3, 0.4, 0.3)
#: The same for the variance between iterations: the iteration, the metric by itself.
ITERATION_SHARES = (0.5, 0.5)

#: Draws a pair's differences, (tests, METRICS), for tests given by session and test numbers.
Pair = Callable[[np.random.Generator, NDArray[np.int64], NDArray[np.int64]], Floats]


@dataclass(frozen=True)
class Sessions:
    """Outcome of every check of every session, arrays of shape (sessions, checks).

    Attributes:
        decision: a Ruling; UNDECIDED is inconclusive, or was never in question.
        pairs: pairs measured of its test, 0 where the check was never in question.
        since: pairs after which its decision was final; ``pairs`` where it has none.
    """

    decision: NDArray[np.int64]
    pairs: NDArray[np.int64]
    since: NDArray[np.int64]

    def any_worse(self, checks: Bools | None = None) -> Rate:
        """Return the share of sessions in which any of ``checks`` (default: all) is regressed."""
        worse = self.decision == Ruling.WORSE
        if checks is not None:
            worse = worse[:, checks]
        return Rate(int(worse.any(axis=1).sum()), len(worse))

    def all_fine(self) -> Rate:
        """Return the share of sessions in which every check passed."""
        return Rate(int((self.decision == Ruling.FINE).all(axis=1).sum()), len(self.decision))

    def longest(self) -> Floats:
        """Return the pairs each session took: the most that any of its checks took."""
        largest: Floats = self.pairs.max(axis=1).astype(np.float64)
        return largest


def independent(regime: Regime, iterations: int) -> Pair:
    """Return a source of pairs whose checks share nothing."""
    return _source(regime, iterations, (0.0, 0.0, 1.0), (0.0, 1.0), same_stalls=False)


def correlated(regime: Regime, iterations: int) -> Pair:
    """Return a source of pairs whose checks share process, test and iteration effects."""
    return _source(regime, iterations, PROCESS_SHARES, ITERATION_SHARES, same_stalls=True)


def _source(
    regime: Regime,
    iterations: int,
    process: tuple[float, float, float],
    iteration: tuple[float, float],
    *,
    same_stalls: bool,
) -> Pair:
    by_process = regime.process * np.sqrt(process)
    by_iteration = regime.iteration * np.sqrt(iteration)

    def pair(
        rng: np.random.Generator, sessions: NDArray[np.int64], tests: NDArray[np.int64]
    ) -> Floats:
        count = len(tests)
        # Between two processes of one test all other tests run: a stall that lasts covers
        # the iterations of one process, not those of the next.
        metrics = 1 if same_stalls else METRICS
        hit = stalled(rng, regime, (count, metrics, 2, WARMUP + iterations))[..., WARMUP:]
        values = delays(rng, np.broadcast_to(hit, (count, METRICS, 2, iterations)))
        values += rng.normal(0.0, by_iteration[1], values.shape)
        values += rng.normal(0.0, by_process[2], (count, METRICS, 2, 1))
        if process[1]:
            values += rng.normal(0.0, by_iteration[0], (count, 1, 2, iterations))
            values += rng.normal(0.0, by_process[1], (count, 1, 2, 1))
            if len(sessions):
                whole = rng.normal(0.0, by_process[0], (int(sessions.max()) + 1, 2))
                values += whole[sessions][:, None, :, None]
        medians = np.median(values, axis=-1)
        difference: Floats = medians[..., 1] - medians[..., 0]
        return difference

    return pair


def simulate(
    rng: np.random.Generator,
    pair: Pair,
    effects: Floats,
    sessions: int,
    *,
    in_question: Bools | None = None,
) -> Sessions:
    """Run ``sessions`` sessions in which check i is slower by ``effects[i]`` (log scale).

    ``in_question`` (sessions, checks): the checks that are judged at all and share alpha;
    the others stay UNDECIDED. Default: all.
    """
    if in_question is None:
        in_question = np.ones((sessions, len(effects)), dtype=np.bool_)
    parts = [
        _chunk(rng, pair, effects, in_question[start : start + CHUNK])
        for start in range(0, sessions, CHUNK)
    ]
    return Sessions(
        np.concatenate([part.decision for part in parts]),
        np.concatenate([part.pairs for part in parts]),
        np.concatenate([part.since for part in parts]),
    )


def _chunk(rng: np.random.Generator, pair: Pair, effects: Floats, asked: Bools) -> Sessions:
    shape = asked.shape
    d = np.zeros((*shape, MAX))
    worse, fine, mean = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    decision = np.zeros(shape, dtype=np.int64)
    pairs, since = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    measured = asked.reshape(len(asked), -1, METRICS).any(axis=2)
    for n in range(1, MAX + 1):
        session, test = np.nonzero(measured)
        if not len(session):
            break
        rows, checks = session[:, None], test[:, None] * METRICS + np.arange(METRICS)
        d[rows, checks, n - 1] = pair(rng, session, test) + effects[checks]
        pairs[rows, checks] = n
        if n < FIRST:
            continue
        now = look(d[rows, checks, :n], ZONE)
        worse[rows, checks] = np.maximum(worse[rows, checks], now.log_e_worse)
        fine[rows, checks] = np.maximum(fine[rows, checks], now.log_e_fine)
        mean[rows, checks] = now.mean
        # All of a session's checks are judged again: a called one loosens the others' thresholds.
        high = mean >= ZONE.min_called
        called = high & (worse >= _levels(worse, high, asked))
        passed = ~called & (fine >= LOG_PASS) & (mean < ZONE.tolerance)
        now_said = np.where(called, Ruling.WORSE, np.where(passed, Ruling.FINE, 0)) * asked
        since[now_said != decision] = n
        decision = now_said
        open_ = (decision == Ruling.UNDECIDED) & asked
        measured &= open_.reshape(len(asked), -1, METRICS).any(axis=2)
    since = np.where(decision == Ruling.UNDECIDED, pairs, since) * asked
    return Sessions(decision, pairs * asked, since)


def _levels(worse: Floats, eligible: Bools, asked: Bools) -> Floats:
    """Return each check's threshold, computed for sessions with equally many checks at once."""
    levels = np.full(worse.shape, np.inf)
    counts = asked.sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        some = np.nonzero(counts == count)[0]
        # The checks in question come first, in any order.
        order = np.argsort(~asked[some], axis=1, kind="stable")[:, :count]
        index = (some[:, None], order)
        levels[index] = alarm_levels(worse[index], ALPHA, eligible[index])
    return levels


#: How often a check that is 5% slower must be called, and within how many pairs on average.
MUST_CATCH: dict[str, tuple[float, float | None]] = {
    "quiet": (0.95, 12.0),
    "noisy": (0.95, 20.0),
    "bursty": (0.90, None),
}
MODELS = (("independent", independent), ("correlated", correlated))
HEAD = (
    "regime, checks",
    "any false alarm %",
    "all green %",
    "slow ones caught %",
    "pairs a test",
    "to call",
    "a session",
)


def run(report: Report, settings: Settings) -> None:
    """Print the four scenarios: nothing changed, at the edge, one slow, all slow."""
    unchanged = np.zeros(CHECKS)
    edge = np.full(CHECKS, ZONE.negligible)
    one_slow = np.zeros(CHECKS)
    one_slow[0] = np.log1p(0.05)
    all_slow = np.full(CHECKS, np.log1p(0.05))
    scenarios = (
        ("unchanged", unchanged),
        ("all slower by 1%", edge),
        ("one slower by 5%", one_slow),
        ("all slower by 5%", all_slow),
    )
    for place, (title, effects) in enumerate(scenarios):
        rows = []
        for number, regime in enumerate(REGIMES):
            for kind, (model, source) in enumerate(MODELS):
                rng = settings.rng(2, place, number, kind)
                pair = source(regime, settings.iterations)
                done = simulate(rng, pair, effects, settings.repetitions)
                rows.append(_row(f"{regime.name}, {model}", effects, done))
                _require(report, title, regime.name, model, effects, done)
        report.table(
            f"Sessions of {CHECKS} checks, {title}: e-Holm at alpha {ALPHA}, "
            f"{settings.repetitions} sessions a row",
            HEAD,
            rows,
        )
    report.note(
        "1% is the edge of negligible; pairs: of the slow checks' tests (all where none is)"
    )


def _row(name: str, effects: Floats, done: Sessions) -> tuple[object, ...]:
    slow = effects > ZONE.negligible
    of_interest = slow if slow.any() else ~slow
    caught = done.decision[:, slow] == Ruling.WORSE
    return (
        name,
        done.any_worse(~slow) if not slow.all() else "-",
        done.all_fine() if not slow.any() else "-",
        Rate(int(caught.sum()), caught.size) if slow.any() else "-",
        Mean.of(done.pairs[:, of_interest].mean(axis=1)),
        Mean.of(done.since[:, slow][caught]),
        Mean.of(done.longest()),
    )


def _require(
    report: Report, title: str, regime: str, model: str, effects: Floats, done: Sessions
) -> None:
    slow = effects > ZONE.negligible
    where = f"{CHECKS} checks, {title}, {regime}, {model}"
    if not slow.all():
        report.at_most(f"{where}: false alarm in <= 1%", done.any_worse(~slow), ALPHA)
    if not effects.any() and regime in ("quiet", "noisy"):
        report.at_least(f"{where}: all green in >= 98%", done.all_fine(), 0.98)
    least, max_pairs = MUST_CATCH.get(regime, (None, None))
    if least is None or slow.sum() != 1:
        return
    caught = done.decision[:, slow] == Ruling.WORSE
    rate = Rate(int(caught.sum()), caught.size)
    report.at_least(f"{where}: called in >= {least:.0%}", rate, least)
    if max_pairs is not None:
        what = f"{where}: called within {max_pairs:.0f} pairs on average"
        report.at_most(what, Mean.of(done.since[:, slow][caught]), max_pairs)
