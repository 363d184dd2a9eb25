"""A series drawn as one line of bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.report.history import ASCII, BLOCKS, bars_for, column_of, sparkline


def test_bars_go_from_the_least_to_the_greatest_value() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8], 80, 0.05) == BLOCKS


def test_many_values_share_a_bar_by_their_median() -> None:
    assert sparkline([1, 1, 9, 8, 8, 1], 2, 0.05) == "▁█"


def test_of_an_even_number_of_values_the_middle_of_the_two_in_the_middle_is_drawn() -> None:
    assert sparkline([1, 3, 8, 8, 2, 2], 3, 0.05) == "▁█▁"


def test_small_differences_stay_small() -> None:
    assert sparkline([100.0, 100.1, 99.9, 100.0], 80, 0.05) == "▅▅▄▅"


def test_equal_values_are_one_height() -> None:
    assert len(set(sparkline([5.0] * 10, 4, 0.05))) == 1


def test_no_values_are_no_bars() -> None:
    assert sparkline([], 10, 0.05) == ""


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=300), st.integers(1, 100))
def test_there_are_as_many_bars_as_fit(values: list[float], width: int) -> None:
    assert len(sparkline(values, width, 0.05)) == min(width, len(values))


@given(st.integers(1, 300), st.integers(1, 100), st.data())
def test_a_marker_stands_below_the_bar_of_its_value(
    count: int, width: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, count - 1))
    columns, column = min(width, count), column_of(index, count, width)
    assert column * count // columns <= index < (column + 1) * count // columns


@pytest.mark.parametrize(
    ("encoding", "bars"),
    [("utf-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("nonsense", ASCII)],
)
def test_encodings_that_lack_the_bars_get_others(encoding: str | None, bars: str) -> None:
    assert bars_for(encoding) == bars
    assert len(bars) == 8
