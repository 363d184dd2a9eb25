"""Planning: the slowdown that a number of pairs can call, and the pairs a verdict takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_llmperf.stats.paired import Zone, look, mde, pairs_to_pass, smallest_reaching

ALARM, PASS = math.log(100), math.log(20)
ZONE = Zone.of(0.05)


def _called(slowdown: float, sd: float, pairs: int) -> float:
    """Return the share of simulated checks called at the look after the last pair."""
    chance = np.random.default_rng(20260506)
    seen = look(chance.normal(math.log1p(slowdown), sd, (4000, pairs)), ZONE)
    return float(np.mean((seen.log_e_worse >= ALARM) & (seen.mean >= ZONE.min_called)))


@pytest.mark.parametrize(("sd", "pairs"), [(0.015, 12), (0.03, 20), (0.05, 40)])
def test_slowdown_at_the_mde_is_called_as_often_as_stated(sd: float, pairs: int) -> None:
    assert _called(mde(sd, pairs, ALARM, 0.05), sd, pairs) == pytest.approx(0.9, abs=0.04)


def test_mde_shrinks_with_more_pairs() -> None:
    reach = [mde(0.03, pairs, ALARM, 0.05) for pairs in (5, 10, 20, 40)]
    assert reach == sorted(reach, reverse=True)


def test_mde_is_never_below_the_least_that_is_called() -> None:
    assert mde(0.0, 40, ALARM, 0.05) == pytest.approx(0.04)


@pytest.mark.parametrize("sd", [0.0, 0.01])
def test_two_pairs_call_nothing(sd: float) -> None:
    assert mde(sd, 2, ALARM, 0.05) == math.inf


@pytest.mark.parametrize("sd", [0.03, 0.08])
def test_unchanged_check_passes_by_then_in_at_least_half_of_all_sessions(sd: float) -> None:
    pairs = pairs_to_pass(sd, PASS, 0.05, power=0.5)
    assert pairs is not None
    chance = np.random.default_rng(20260507)

    def passed(n: int) -> float:
        seen = look(chance.normal(0.0, sd, (4000, n)), ZONE)
        return float(np.mean(seen.log_e_fine >= PASS))

    assert passed(pairs) >= 0.5
    # Not more pairs than it takes: a quarter fewer are not enough.
    assert passed(math.floor(0.75 * pairs)) < 0.5


def test_hopeless_noise_never_passes() -> None:
    assert pairs_to_pass(2.0, PASS, 0.05, power=0.5) is None


def test_the_smallest_number_is_found_with_few_looks_at_many_pairs() -> None:
    asked: list[int] = []

    def search(answer: int, first: int, last: int) -> int | None:
        asked.clear()

        def reached(n: int) -> bool:
            asked.append(n)
            return n >= answer

        return smallest_reaching(reached, first, last)

    for answer in range(1, 45):
        for first in (3, 10):
            smallest = search(answer, first, 40)
            assert smallest == (max(answer, first) if answer <= 40 else None)
            assert len(set(asked)) == len(asked)
    assert search(3, 41, 40) is None
    assert search(5, 3, 400) == 5
    assert max(asked) <= 6
