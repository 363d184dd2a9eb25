from __future__ import annotations

import math

import pytest

from pytest_llmperf.metrics import Unit
from pytest_llmperf.units import (
    UnitError,
    parse_duration,
    parse_fraction,
    parse_quantity,
    parse_tolerance,
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5.0),
        ("5 s", 5.0),
        (" 1.5s ", 1.5),
        ("2m", 120.0),
        ("2min", 120.0),
        ("1h", 3600.0),
        ("250us", 250e-6),
        ("250µs", 250e-6),
        ("1e3ms", 1.0),
        (".5s", 0.5),
        (0.5, 0.5),
        (3, 3.0),
        (0, 0.0),
    ],
)
def test_a_duration_is_read_as_seconds(value: object, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "size"),
    [("8GiB", 8 * 2**30), ("512 MiB", 2**29), ("1GB", 10**9), ("1kB", 1000), ("7B", 7), (42, 42)],
)
def test_a_size_is_read_as_bytes(value: object, size: int) -> None:
    assert parse_quantity(value, Unit.BYTES) == size


@pytest.mark.parametrize("value", ["60 tok/s", "60 tokens/s", "60tok/s", "60", 60, 60.0])
def test_a_rate_may_leave_its_unit_out(value: object) -> None:
    assert parse_quantity(value, Unit.TOKENS_PER_SECOND) == 60.0


def test_an_energy_is_read_as_joules() -> None:
    assert parse_quantity("200mJ", Unit.JOULES) == pytest.approx(0.2)


@pytest.mark.parametrize(("value", "fraction"), [("5%", 0.05), (0.05, 0.05), (0, 0.0), ("100%", 1)])
def test_a_percentage_is_read_as_a_fraction(value: object, fraction: float) -> None:
    assert parse_fraction(value) == pytest.approx(fraction)


@pytest.mark.parametrize("value", ["5", "0.05", 5, 1, "101%"])
def test_a_fraction_that_could_mean_something_else_is_refused(value: object) -> None:
    with pytest.raises(UnitError, match="expected a percentage such as 5%"):
        parse_fraction(value)


@pytest.mark.parametrize("value", ["0%", 0, "100%"])
def test_a_tolerance_is_neither_nothing_nor_everything(value: object) -> None:
    with pytest.raises(UnitError, match="above 0% and below 100%"):
        parse_tolerance(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("500", "expected a duration such as 500ms, 5s, got '500' (no unit)"),
        ("-5s", "expected a duration such as 500ms, 5s, got '-5s' (negative)"),
        ("1e999s", "expected a duration such as 500ms, 5s, got '1e999s' (not finite)"),
        (math.inf, "expected a duration such as 500ms, 5s, got inf (not finite)"),
        (math.nan, "expected a duration such as 500ms, 5s, got nan (not finite)"),
        (10**400, "(not finite)"),
        (True, "expected a duration such as 500ms, 5s, got true"),
        (None, "expected a duration such as 500ms, 5s, got nothing (null)"),
        ([1], "expected a duration such as 500ms, 5s, got a list"),
        ("soon", "expected a duration such as 500ms, 5s, got 'soon'"),
        ("", "expected a duration such as 500ms, 5s, got ''"),
        ("5 parsecs", "got '5 parsecs' (unknown unit; known: ns, us, ms, s, m, min, h)"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(value: object, message: str) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(value)
    assert message in str(caught.value)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration("x" * 10_000)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("1s", Unit.SECONDS, 1.0),
        ("30 tok/s", Unit.TOKENS_PER_SECOND, 30.0),
        ("1KiB", Unit.BYTES, 1024.0),
        ("1J", Unit.JOULES, 1.0),
        ("5%", Unit.RATIO, 0.05),
    ],
)
def test_a_quantity_is_read_by_its_metrics_unit(value: str, unit: Unit, expected: float) -> None:
    assert parse_quantity(value, unit) == pytest.approx(expected)


def test_another_metrics_unit_is_refused() -> None:
    with pytest.raises(UnitError, match="expected a rate"):
        parse_quantity("5s", Unit.TOKENS_PER_SECOND)


def test_powers_need_their_unit() -> None:
    assert parse_quantity("350W", Unit.WATTS) == 350.0
    assert parse_quantity("1.2kW", Unit.WATTS) == pytest.approx(1200.0)
    with pytest.raises(UnitError, match="a power such as 350W"):
        parse_quantity("350", Unit.WATTS)
