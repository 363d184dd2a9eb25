"""The simulation of the gate: its noise, and its agreement with the gate."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gate_checks import ALPHA, FIRST, LOG_PASS, MAX, ZONE, Ruling, Settings, decide, judge
from gate_minority import by_median, by_percentile, by_stalls, iterations_of
from gate_procedure import called, screened
from gate_regimes import (
    REGIMES,
    Drift,
    Regime,
    blocks,
    differences,
    in_time_order,
    session_processes,
    stalled,
)
from gate_sessions import CHECKS, METRICS, correlated, independent, simulate
from gate_tables import Mean, Rate, Report

from pytest_llmperf.stats.holm import alarm_levels
from pytest_llmperf.stats.paired import Look, look
from pytest_llmperf.stats.prediction import predict

GPU, QUIET, NOISY, BURSTY, VERY_NOISY = REGIMES
STILL = Regime("still", 0.0, 0.0, 0.0)
LOG_ALARM = math.log(1.0 / ALPHA)

# Noise.


def test_pairs_spread_as_processes_and_iterations_do(rng: np.random.Generator) -> None:
    d = differences(rng, QUIET, 4000, 10, 3)
    # The median of three Gaussian values has 0.4487 of their variance.
    expected = math.sqrt(2.0 * (QUIET.process**2 + 0.4487 * QUIET.iteration**2))
    assert float(d.std()) == pytest.approx(expected, rel=0.02)
    assert abs(float(d.mean())) < 4 * expected / math.sqrt(d.size)


@pytest.mark.parametrize("regime", [NOISY, BURSTY, VERY_NOISY], ids=lambda r: r.name)
def test_stalls_are_as_frequent_as_stated(rng: np.random.Generator, regime: Regime) -> None:
    hit = stalled(rng, regime, (3000, 400))
    assert float(hit.mean()) == pytest.approx(regime.stalls, rel=0.06)


def test_bursts_last_as_long_as_stated(rng: np.random.Generator) -> None:
    hit = stalled(rng, BURSTY, (3000, 400))
    begins = int((hit[:, 1:] & ~hit[:, :-1]).sum()) + int(hit[:, 0].sum())
    # A burst that the end cuts off is shorter: 8 of 400 iterations.
    assert int(hit.sum()) / begins == pytest.approx(BURSTY.burst, rel=0.05)


def test_a_burst_can_hit_both_processes_of_a_pair(rng: np.random.Generator) -> None:
    medians = np.median(in_time_order(rng, BURSTY, 3000, 2, 3), axis=-1) > 0.2
    both, single = float(medians.all(axis=1).mean()), float(medians[:, 0].mean())
    assert both > 5 * single**2


def test_sessions_have_a_level_of_their_own(rng: np.random.Generator) -> None:
    processes = session_processes(rng, NOISY, (5000,), 3, 3)
    first, second = processes[:, 0], processes[:, 1]
    shared = float(np.cov(np.clip(first, -0.1, 0.1), np.clip(second, -0.1, 0.1))[0, 1])
    assert shared == pytest.approx(NOISY.session**2, rel=0.15)


# Blocks.


def test_blocks_are_abba_or_baab_in_equal_parts(rng: np.random.Generator) -> None:
    candidate = blocks(rng, 4000, 4)
    orders = candidate.reshape(4000, 2, 4)
    kinds = {tuple(order) for order in orders.reshape(-1, 4).tolist()}
    assert kinds == {(False, True, True, False), (True, False, False, True)}
    assert float(orders[..., 0].mean()) == pytest.approx(0.5, abs=0.03)


def test_a_block_of_an_odd_end_is_half_a_block(rng: np.random.Generator) -> None:
    assert blocks(rng, 5, 3).shape == (5, 3, 2)


@pytest.mark.parametrize(
    "drift", [Drift(per_process=0.01), Drift(carry_over=0.015)], ids=["slope", "carry-over"]
)
def test_whole_blocks_cancel_drift(rng: np.random.Generator, drift: Drift) -> None:
    d = differences(rng, STILL, 50, 10, 3, drift=drift)
    assert np.allclose(d[:, 0::2] + d[:, 1::2], 0.0, atol=1e-12)
    assert np.abs(d).min() > 0.009


def test_fixed_order_does_not_cancel_carry_over(rng: np.random.Generator) -> None:
    d = differences(rng, STILL, 50, 10, 3, drift=Drift(carry_over=0.015), fixed=True)
    assert np.allclose(d, 0.015)


# One check.


def _look(mean: float) -> Look:
    return Look(
        8, np.asarray(mean), np.asarray(0.02), np.asarray(0.0), np.asarray(0.0), np.asarray(0.0)
    )


@pytest.mark.parametrize(
    ("mean", "worse", "fine", "expected"),
    [
        (0.05, 4.7, -1.0, Ruling.WORSE),
        (0.05, 4.5, -1.0, Ruling.UNDECIDED),
        (0.03, 4.7, -1.0, Ruling.UNDECIDED),
        (0.00, -1.0, 3.1, Ruling.FINE),
        (0.00, -1.0, 2.9, Ruling.UNDECIDED),
        (0.05, 4.7, 3.1, Ruling.WORSE),
        (0.03, 4.7, 3.1, Ruling.FINE),
    ],
)
def test_decisions(mean: float, worse: float, fine: float, expected: Ruling) -> None:
    assert decide(_look(mean), worse, fine, math.log(100), math.log(20), ZONE) == expected


def test_decisions_of_a_batch_with_a_threshold_each() -> None:
    d = np.stack([np.full(6, 0.08), np.full(6, 0.0), np.full(6, 0.08)])
    d = d + np.linspace(-0.02, 0.02, 6)
    seen = look(d, ZONE)
    alarm = np.array([4.6, 4.6, 50.0])
    rulings = decide(seen, seen.log_e_worse, seen.log_e_fine, alarm, math.log(20), ZONE)
    assert rulings.tolist() == [
        Ruling.WORSE,
        Ruling.FINE,
        Ruling.UNDECIDED,
    ]


@pytest.mark.parametrize("effect", [0.0, 0.03, 0.05])
def test_judges_each_check_as_a_path_of_looks_does(rng: np.random.Generator, effect: float) -> None:
    d = differences(rng, NOISY, 40, MAX, 3) + math.log1p(effect)
    outcomes = judge(d, log_alarm=LOG_ALARM)
    for row, decision, pairs in zip(d, outcomes.decision, outcomes.pairs, strict=True):
        worse = fine = -math.inf
        for n in range(FIRST, MAX + 1):
            seen = look(row[:n], ZONE)
            worse, fine = max(worse, float(seen.log_e_worse)), max(fine, float(seen.log_e_fine))
            ruling = Ruling(int(decide(seen, worse, fine, LOG_ALARM, LOG_PASS, ZONE)))
            if ruling is not Ruling.UNDECIDED:
                break
        assert (ruling, n) == (decision, pairs)


def test_the_largest_evidence_so_far_counts() -> None:
    # Clearly slower by 3.5%, which is too little to call; then one stall: the mean is high
    # enough, and the evidence no longer what it was.
    d = np.array([[0.034, 0.036, 0.034, 0.036, 0.035, 0.4]])
    outcomes = judge(d, log_alarm=LOG_ALARM, log_pass=math.inf, looks=range(3, 7))
    assert look(d[0], ZONE).log_e_worse < LOG_ALARM < look(d[0, :5], ZONE).log_e_worse
    assert outcomes.decision.tolist() == [Ruling.WORSE]
    assert outcomes.pairs.tolist() == [6]


def test_looks_only_where_it_is_told_to(rng: np.random.Generator) -> None:
    d = differences(rng, NOISY, 200, MAX, 3)
    outcomes = judge(d, log_alarm=LOG_ALARM, looks=range(4, MAX + 1, 2))
    assert set(outcomes.pairs.tolist()) <= set(range(4, MAX + 1, 2))


def test_a_cell_does_not_depend_on_what_ran_before() -> None:
    settings = Settings(10, 3)
    settings.rng(1, 2).normal(size=100)
    again = settings.rng(1, 2).normal(size=3)
    assert np.array_equal(again, Settings(10, 3).rng(1, 2).normal(size=3))
    assert not np.array_equal(again, settings.rng(1, 3).normal(size=3))


# Sessions.


@pytest.mark.parametrize("source", [independent, correlated])
def test_an_unchanged_session_is_green(rng: np.random.Generator, source: object) -> None:
    assert callable(source)
    simulated = simulate(rng, source(GPU, 3), np.zeros(CHECKS), 30)
    assert simulated.all_fine() == Rate(30, 30)
    assert simulated.any_worse() == Rate(0, 30)


def test_the_slow_check_of_a_session_is_called(rng: np.random.Generator) -> None:
    effects = np.zeros(CHECKS)
    effects[7] = math.log1p(0.10)
    simulated = simulate(rng, independent(QUIET, 3), effects, 30)
    assert (simulated.decision[:, 7] == Ruling.WORSE).all()
    assert simulated.any_worse(effects == 0.0) == Rate(0, 30)
    assert (simulated.since <= simulated.pairs).all()


def test_a_test_is_measured_until_all_its_checks_are_decided(rng: np.random.Generator) -> None:
    effects = np.zeros(CHECKS)
    effects[0] = math.log1p(0.05)
    simulated = simulate(rng, independent(QUIET, 3), effects, 30)
    tests = simulated.pairs.reshape(30, -1, METRICS)
    assert (tests == tests[..., :1]).all()
    assert (tests[:, 0, 0] >= simulated.since[:, :METRICS].max(axis=1)).all()


def test_a_check_alone_needs_less_evidence_than_one_of_sixty(rng: np.random.Generator) -> None:
    effects = np.zeros(CHECKS)
    effects[0] = math.log1p(0.05)
    alone = np.zeros((200, CHECKS), dtype=np.bool_)
    alone[:, 0] = True
    few = simulate(rng, independent(QUIET, 3), effects, 200, in_question=alone)
    many = simulate(rng, independent(QUIET, 3), effects, 200)
    assert few.since[:, 0].mean() < many.since[:, 0].mean() - 2


def test_what_is_not_in_question_is_neither_judged_nor_measured(rng: np.random.Generator) -> None:
    asked = np.zeros((20, CHECKS), dtype=np.bool_)
    asked[:, 0] = True
    effects = np.zeros(CHECKS)
    effects[0] = math.log1p(0.10)
    simulated = simulate(rng, independent(QUIET, 3), effects, 20, in_question=asked)
    assert (simulated.decision[:, 0] == Ruling.WORSE).all()
    # The other metrics of its test are measured with it, and still not judged.
    assert (simulated.decision[:, 1:] == Ruling.UNDECIDED).all()
    assert (simulated.pairs[:, 1:] == 0).all()


def test_evidence_of_a_small_slowdown_is_no_alarm(rng: np.random.Generator) -> None:
    small = np.full(CHECKS, math.log1p(0.036))
    simulated = simulate(rng, independent(Regime("steady", 0.0, 0.001, 0.001), 3), small, 20)
    assert simulated.any_worse() == Rate(0, 20)


def test_checks_of_one_test_share_noise_where_they_are_correlated(
    rng: np.random.Generator,
) -> None:
    many = np.zeros(4000, dtype=np.int64)
    shared = correlated(QUIET, 3)(rng, np.arange(4000), many)
    apart = independent(QUIET, 3)(rng, np.arange(4000), many)
    assert float(np.corrcoef(shared[:, 0], shared[:, 1])[0, 1]) > 0.5
    assert abs(float(np.corrcoef(apart[:, 0], apart[:, 1])[0, 1])) < 0.1


def test_thresholds_of_a_simulated_session_are_those_of_holm() -> None:
    from gate_sessions import _levels

    worse = np.array([[9.0, 1.0, 6.0, 0.0], [2.0, 7.0, 0.0, 0.0]])
    high = np.ones((2, 4), dtype=np.bool_)
    asked = np.array([[True, True, True, True], [False, True, True, False]])
    levels = _levels(worse, high, asked)
    assert np.allclose(levels[0], alarm_levels(worse[0], ALPHA))
    assert np.allclose(levels[1, 1:3], alarm_levels(worse[1, 1:3], ALPHA))


# Stored sessions.


def test_one_stored_session_passes_nothing(rng: np.random.Generator) -> None:
    stored = rng.normal(0.0, 0.003, (1, 50, 1))
    assert not screened(predict(stored), np.zeros((1, 50))).any()


def test_a_stall_over_two_of_three_processes_is_not_called(rng: np.random.Generator) -> None:
    stored = rng.normal(0.0, 0.01, (1, CHECKS, 10))
    new = rng.normal(0.0, 0.01, (1, CHECKS, 3))
    new[0, 0, :2] += 1.0
    level = np.median(new, axis=-1)
    assert called(predict(stored), level, level)[0, 0]
    assert not called(predict(stored), level, new.min(axis=-1)).any()


# A minority of iterations.


def test_a_percentile_sees_a_minority_and_does_not_pass_it(rng: np.random.Generator) -> None:
    values = iterations_of(rng, QUIET, 200, 3, share=0.2)
    outcomes = by_percentile(rng, values)
    assert outcomes.rate(Ruling.WORSE).value > 0.9
    assert outcomes.rate(Ruling.FINE).value < 0.05


def test_a_median_is_blind_to_a_minority_that_the_stall_rate_sees(
    rng: np.random.Generator,
) -> None:
    values = iterations_of(rng, QUIET, 100, 3, share=0.2)
    assert by_median(rng, values).rate(Ruling.WORSE).value < 0.05
    assert by_stalls(rng, values).rate(Ruling.WORSE).value > 0.95


def test_equal_stall_rates_are_not_called(rng: np.random.Generator) -> None:
    values = iterations_of(rng, VERY_NOISY, 300, 3, share=0.0)
    assert by_stalls(rng, values).rate(Ruling.WORSE).value < 0.02


# What is printed.


def test_a_rate_prints_its_interval() -> None:
    assert str(Rate(2, 5000)) == "0.04 [0.00, 0.14]"
    assert str(Rate(0, 5000)) == "0 [0, 0.07]"
    assert str(Rate(4750, 5000)) == "95.0 [94.4, 95.6]"
    assert str(Rate(1, 60000)).startswith("<0.01 [")
    assert str(Rate(59999, 60000)).startswith(">99.99 [")
    assert str(Rate(0, 0)) == "-"


def test_a_mean_prints_its_standard_error() -> None:
    assert str(Mean.of([1.0, 2.0, 3.0])) == "2.0±0.58"
    assert str(Mean.of([])) == "-"


@pytest.mark.parametrize(
    ("exact", "hits", "met"), [(True, 2, False), (False, 2, True), (False, 20, False)]
)
def test_few_repetitions_miss_a_requirement_only_beyond_doubt(
    exact: bool, hits: int, met: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(exact=exact)
    report.at_most("false alarms", Rate(hits, 100), 0.01)
    assert report.close() is met
    assert ("MISSED" in capsys.readouterr().out) is not met


def test_the_script_prints_tables_that_fit_and_meets_its_requirements(
    root: Path, tmp_path: Path
) -> None:
    script = root / "benchmarks" / "gate_accuracy.py"
    file = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--part", "regimes", "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "bursty" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110
    assert '"requirements"' in file.read_text(encoding="utf-8")
