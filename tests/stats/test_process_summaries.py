"""Summaries of samples per process."""

from __future__ import annotations

import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.stats.summary import (
    process_medians,
    stalled,
    stalls,
    summarise,
    summarise_sessions,
)

positive = st.floats(min_value=1e-9, max_value=1e12)
processes = st.lists(st.lists(positive, min_size=1, max_size=5), min_size=1, max_size=8)


def test_a_process_counts_by_the_median_of_its_iterations() -> None:
    assert process_medians([[1.0, 9.0, 2.0], [3.0, 5.0]]) == [2.0, 4.0]


def test_one_slow_iteration_does_not_move_the_value() -> None:
    quiet = summarise([[1.0, 1.01, 0.99], [1.0, 1.01, 0.99], [1.0, 1.01, 0.99]])
    stalled = summarise([[1.0, 1.01, 0.99], [1.0, 4.4, 0.99], [1.0, 1.01, 0.99]])
    assert stalled.value == quiet.value


def test_value_is_the_median_of_process_medians() -> None:
    assert summarise([[10.0], [30.0], [11.0]]).value == 11.0


def test_interval_is_students_t_on_the_logarithms() -> None:
    summary = summarise([[math.exp(-0.1)], [1.0], [math.exp(0.1)]])
    half = 4.302652729749459 * 0.1 / math.sqrt(3)  # t(0.975, 2) * s / sqrt(n)
    assert summary.low == pytest.approx(math.exp(-half))
    assert summary.high == pytest.approx(math.exp(half))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    chance = random.Random(20260401)
    covered = 0
    for _ in range(2000):
        summary = summarise([[chance.lognormvariate(0.0, 0.012)] for _ in range(5)])
        assert summary.low is not None
        assert summary.high is not None
        covered += summary.low <= 1.0 <= summary.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_one_process_gets_no_interval() -> None:
    summary = summarise([[1.0, 1.1, 1.2]])
    assert (summary.low, summary.high) == (None, None)


def test_constant_samples_give_an_interval_of_no_width() -> None:
    summary = summarise([[0.1] * 3] * 3)
    assert (summary.low, summary.value, summary.high) == (0.1, 0.1, 0.1)


def test_processes_and_iterations_are_counted() -> None:
    summary = summarise([[1.0, 1.0, 1.0], [1.0, 1.0]])
    assert (summary.processes, summary.iterations) == (2, 5)


def test_wildly_different_processes_do_not_overflow() -> None:
    summary = summarise([[1e-300], [1e300]])
    assert summary.low is not None
    assert summary.high is not None
    assert 0.0 < summary.low < summary.high < math.inf


@given(processes)
def test_interval_always_holds_the_value(samples: list[list[float]]) -> None:
    summary = summarise(samples)
    if len(samples) > 1:
        assert summary.low is not None
        assert summary.high is not None
        assert summary.low <= summary.value <= summary.high


@given(processes, st.randoms(use_true_random=False))
def test_order_of_processes_does_not_matter(
    samples: list[list[float]], chance: random.Random
) -> None:
    shuffled = chance.sample(samples, len(samples))
    assert summarise(shuffled).value == summarise(samples).value


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_value_that_is_not_positive_and_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"process 2 measured .* expected a number above 0"):
        summarise([[1.0], [1.0, bad]])


@pytest.mark.parametrize("samples", [[], [[1.0], []]])
def test_nothing_measured_is_refused(samples: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"no samples|no iterations"):
        summarise(samples)


def test_sessions_count_once_each_however_many_processes_they_have() -> None:
    many = [[100.0]] * 9
    summary = summarise_sessions([many, [[110.0]], [[120.0]]])
    assert summary.value == median([100.0, 110.0, 120.0])


def test_one_session_gets_no_interval_whatever_its_processes_say() -> None:
    summary = summarise_sessions([[[1.0], [1.1], [1.2]]])
    assert (summary.value, summary.low, summary.processes) == (1.1, None, 3)


def test_no_session_is_refused() -> None:
    with pytest.raises(ValueError, match="no session"):
        summarise_sessions([])


def test_stalls_are_counted_against_their_own_process() -> None:
    slow_process = [2.0, 2.0, 2.1]
    assert stalls([[1.0, 1.0, 1.3], slow_process, [1.0, 1.2, 4.4, 1.0, 1.0]]) == 2


def test_stalled_marks_iterations_against_a_common_centre() -> None:
    durations = [[1.0, 1.3, 1.25], [2.0, 1.9]]
    assert stalled(durations, 1.0) == ((False, True, False), (True, True))


@pytest.mark.parametrize("centre", [0.0, math.nan, math.inf])
def test_a_centre_that_is_no_duration_is_refused(centre: float) -> None:
    with pytest.raises(ValueError, match="centre of durations"):
        stalled([[1.0]], centre)
