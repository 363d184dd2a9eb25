from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.metrics import Unit
from pytest_llmperf.units import (
    format_duration,
    format_interval,
    format_quantity,
    format_with_interval,
    parse_duration,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (84.94, Unit.TOKENS_PER_SECOND, "84.9 tok/s"),
        (6.561, Unit.TOKENS_PER_SECOND, "6.56 tok/s"),
        (1234.5, Unit.TOKENS_PER_SECOND, "1234 tok/s"),
        (0.412, Unit.SECONDS, "412 ms"),
        (1.84, Unit.SECONDS, "1.84 s"),
        (45.0, Unit.SECONDS, "45.0 s"),
        (0.000_25, Unit.SECONDS, "250 µs"),
        (0.0, Unit.SECONDS, "0 s"),
        (8 * 2**30, Unit.BYTES, "8.0 GiB"),
        (98362432, Unit.BYTES, "93.8 MiB"),
        (12, Unit.BYTES, "12 B"),
        (0.2, Unit.JOULES, "200 mJ"),
        (0.052, Unit.RATIO, "5.2%"),
    ],
)
def test_a_quantity_is_printed_in_the_scale_people_read(
    value: float, unit: Unit, text: str
) -> None:
    assert format_quantity(value, unit) == text


def test_a_value_that_rounds_up_to_the_next_scale_is_printed_in_it() -> None:
    assert format_quantity(0.9996, Unit.SECONDS) == "1.00 s"


def test_an_interval_is_printed_in_the_values_scale() -> None:
    assert (
        format_with_interval(84.9, 83.9, 85.7, Unit.TOKENS_PER_SECOND) == "84.9 [83.9, 85.7] tok/s"
    )
    assert format_with_interval(0.412, 0.405, 0.42, Unit.SECONDS) == "412 [405, 420] ms"
    assert format_with_interval(0.99, 0.9, 1.1, Unit.SECONDS) == "990 [900, 1100] ms"


def test_a_narrow_interval_gets_the_digits_that_tell_its_ends_apart() -> None:
    assert format_with_interval(0.412, 0.4118, 0.4122, Unit.SECONDS) == "412.0 [411.8, 412.2] ms"


def test_without_an_interval_only_the_value_is_printed() -> None:
    assert format_with_interval(0.412, None, None, Unit.SECONDS) == "412 ms"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.03, "30.0 ms"),
        (0.5, "0.5 s"),
        (4.23, "4.23 s"),
        (9.999, "10 s"),
        (12.5, "12.5 s"),
        (59.97, "1 min"),
        (60, "1 min"),
        (100, "1 min 40 s"),
        (150, "2 min 30 s"),
        (600, "10 min"),
        (3599.6, "1 h"),
        (3900, "1 h 5 min"),
        (7230, "2 h 30 s"),
        (math.inf, "inf s"),
    ],
)
def test_a_duration_is_printed_as_people_say_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_printed_duration_is_as_long_as_the_real_one(seconds: float) -> None:
    words = format_duration(seconds).split()
    parts = map("".join, zip(words[::2], words[1::2], strict=True))
    assert sum(map(parse_duration, parts)) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("unit", list(Unit))
def test_a_value_that_is_not_finite_is_printed_not_raised(value: float, unit: Unit) -> None:
    assert str(value) in format_quantity(value, unit)
    assert str(value) in format_with_interval(value, value, value, unit)


_PRINTED = st.floats(min_value=1e-8, max_value=1e6)


@given(value=_PRINTED, unit=st.sampled_from([Unit.SECONDS, Unit.TOKENS_PER_SECOND, Unit.JOULES]))
def test_what_is_printed_reads_back_within_its_precision(value: float, unit: Unit) -> None:
    text = format_quantity(value, unit)
    assert parse_quantity(text, unit) == pytest.approx(value, rel=0.0051)


@given(value=_PRINTED, spread=st.floats(min_value=0, max_value=0.5), unit=st.sampled_from(Unit))
def test_printed_intervals_keep_their_order(value: float, spread: float, unit: Unit) -> None:
    mid, low, high, _ = format_interval(value, value * (1 - spread), value * (1 + spread), unit)
    assert float(low) <= float(mid) <= float(high)
