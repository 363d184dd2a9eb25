"""Holm's rule over the checks of a session."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.stats.holm import alarm_levels

evidence = st.lists(st.floats(min_value=-5.0, max_value=20.0), min_size=1, max_size=12)


def test_one_check_uses_the_whole_rate() -> None:
    assert alarm_levels([0.0], 0.01).tolist() == pytest.approx([math.log(100)])


def test_without_a_rejection_every_check_faces_all_of_them() -> None:
    assert alarm_levels([1.0, 2.0, 3.0, 4.0], 0.01).tolist() == pytest.approx([math.log(400)] * 4)


def test_each_rejection_loosens_the_level_of_the_rest() -> None:
    levels = alarm_levels([1.0, 9.0, 5.8, 2.0], 0.01)
    expected = [math.log(200), math.log(400), math.log(300), math.log(200)]
    assert levels.tolist() == pytest.approx(expected)


def test_a_check_behind_one_that_fails_is_not_rejected() -> None:
    # ln 300 = 5.70: the largest misses ln 400 = 5.99, so the next one's 5.8 is not enough.
    levels = alarm_levels([5.9, 5.8, 0.0, 0.0], 0.01)
    assert levels.tolist() == pytest.approx([math.log(400)] * 4)


def test_all_rejected() -> None:
    levels = alarm_levels([9.0, 8.0, 7.0], 0.01)
    assert levels.tolist() == pytest.approx([math.log(300), math.log(200), math.log(100)])


def test_a_check_that_may_not_be_called_loosens_nothing() -> None:
    levels = alarm_levels([9.0, 1.0, 1.0], 0.01, eligible=np.array([False, True, True]))
    assert levels.tolist() == pytest.approx([math.log(300)] * 3)


def test_no_checks_have_no_levels() -> None:
    assert alarm_levels([], 0.01).shape == (0,)


def test_batches_are_sessions_of_their_own() -> None:
    sessions = np.array([[9.0, 5.5], [1.0, 2.0]])
    levels = alarm_levels(sessions, 0.01)
    assert levels.tolist() == [alarm_levels(row, 0.01).tolist() for row in sessions]


@given(evidence, st.data())
def test_more_evidence_anywhere_never_raises_a_level_of_others(
    log_e: list[float], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(log_e) - 1))
    more = list(log_e)
    more[index] += data.draw(st.floats(min_value=0.0, max_value=10.0))
    called = np.asarray(log_e) >= alarm_levels(log_e, 0.01)
    called_with_more = np.asarray(more) >= alarm_levels(more, 0.01)
    assert (called <= called_with_more).all()


@given(evidence)
def test_levels_lie_between_one_check_and_all_of_them(log_e: list[float]) -> None:
    levels = alarm_levels(log_e, 0.01)
    assert (levels >= math.log(100) - 1e-12).all()
    assert (levels <= math.log(100 * len(log_e)) + 1e-12).all()


@given(evidence, st.randoms(use_true_random=False))
def test_order_of_the_checks_does_not_matter(log_e: list[float], chance: object) -> None:
    order = list(range(len(log_e)))
    chance.shuffle(order)  # type: ignore[attr-defined]
    shuffled = [log_e[i] for i in order]
    called = np.asarray(log_e) >= alarm_levels(log_e, 0.01)
    assert (np.asarray(shuffled) >= alarm_levels(shuffled, 0.01)).tolist() == called[order].tolist()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_outside_zero_and_one_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="inside"):
        alarm_levels([1.0], alpha)


def test_correlated_checks_keep_the_rate_of_the_session() -> None:
    # Ten checks share most of their noise; each p is uniform, the session's rate stays 5%.
    chance = np.random.default_rng(20260503)
    shared = chance.normal(size=(20000, 1))
    z = 0.8 * shared + 0.6 * chance.normal(size=(20000, 10))
    p = np.vectorize(lambda value: 0.5 * math.erfc(value / math.sqrt(2)))(z)
    evidence = -np.log(p)
    alarms = (evidence >= alarm_levels(evidence, 0.05)).any(axis=1).mean()
    assert 0.01 < alarms <= 0.05
