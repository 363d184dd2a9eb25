"""Percentiles with a minimum sample size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.stats.percentiles import group_size, min_values, percentile, pooled

values = st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=50)


@given(values, st.floats(min_value=0.1, max_value=99.9))
def test_percentile_is_numpys_linear_one(sample: list[float], percent: float) -> None:
    expected = float(np.percentile(sample, percent))
    assert percentile(sample, percent) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("percent", "least"), [(50, 10), (90, 50), (95, 100), (99, 500), (99.9, 5000), (5, 100)]
)
def test_five_values_lie_beyond(percent: float, least: int) -> None:
    assert min_values(percent) == least


@pytest.mark.parametrize("percent", [0, 100, -5, float("nan")])
def test_a_percentile_outside_zero_and_hundred_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="inside"):
        min_values(percent)
    with pytest.raises(ValueError, match="inside"):
        percentile([1.0], percent)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 95)


def test_consecutive_processes_join_until_they_are_enough() -> None:
    rows = [[float(i)] * 60 for i in range(4)]
    # Two groups of two processes, 120 values each, for the 95th percentile's 100.
    assert pooled(rows, 95) == ((1.0,), (3.0,))


def test_a_rest_too_small_waits_and_changes_no_group() -> None:
    rows = [[1.0] * 100, [2.0] * 100, [9.0] * 50]
    assert pooled(rows, 95) == ((1.0,), (2.0,))


def test_too_few_values_give_no_percentile_at_all() -> None:
    assert pooled([[1.0] * 33] * 3, 95) == ()


def test_processes_that_suffice_alone_stay_alone() -> None:
    rows = [[float(i)] * 100 for i in range(5)]
    assert pooled(rows, 95) == tuple((float(i),) for i in range(5))


@pytest.mark.parametrize(("values_per_process", "size"), [(1, 100), (30, 4), (99, 2), (100, 1)])
def test_group_size_counts_processes(values_per_process: int, size: int) -> None:
    assert group_size(values_per_process, 95) == size


def test_a_process_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        group_size(0, 95)


def test_groups_are_as_large_as_group_size_says() -> None:
    rows = [[float(i)] * 30 for i in range(8)]
    assert len(pooled(rows, 95)) == 8 // group_size(30, 95)


def test_slow_minority_shows_in_the_percentile_and_not_in_the_median() -> None:
    rows = [[1.0] * 80 + [1.5] * 20] * 3
    assert pooled(rows, 95) == ((1.5,), (1.5,), (1.5,))
    assert pooled(rows, 50) == ((1.0,), (1.0,), (1.0,))
