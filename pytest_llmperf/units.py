"""Quantities with units: parsing ``"500ms"`` and formatting ``"84.9 tok/s"``.

Values inside the program are plain floats in base units (seconds, bytes,
joules, tokens per second, fractions). A plain number is taken to be in base
units; text needs its unit, because ``"500"`` could be seconds or milliseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

from pytest_llmperf.metrics import Unit

_NUMBER_AND_UNIT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*)?")

_DURATIONS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # MICRO SIGN
    "μs": 1e-6,  # GREEK SMALL LETTER MU, which some keyboards give instead
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_FRACTION_WORDS = "a percentage such as 5% or a fraction below 1 such as 0.05"
_TOLERANCE_WORDS = "a percentage above 0% and below 100% such as 5%"
#: The tolerance if none is configured, or if it is ``auto`` and there is no calibration.
DEFAULT_TOLERANCE = 0.05
#: A configured tolerance: a fraction, or ``auto`` for the tolerance from a calibration.
ToleranceSetting = float | Literal["auto"]
#: Base unit -> the expected form of a quantity, in words, and the units to write it in.
_WRITTEN: dict[Unit, tuple[str, Mapping[str, float]]] = {
    Unit.SECONDS: ("a duration such as 500ms, 5s", _DURATIONS),
    Unit.BYTES: ("a size such as 512MiB, 8GiB", _BYTES),
    Unit.TOKENS_PER_SECOND: (
        "a rate such as 60 or '60 tok/s'",
        {"tok/s": 1.0, "tokens/s": 1.0, "tokens/sec": 1.0, "t/s": 1.0},
    ),
    Unit.PER_SECOND: ("a rate such as 4 or '4/s'", {"/s": 1.0, "/min": 1 / 60}),
    Unit.JOULES: ("an energy such as 0.5J, 200mJ", {"mJ": 1e-3, "J": 1.0, "kJ": 1e3}),
    Unit.WATTS: ("a power such as 350W", {"mW": 1e-3, "W": 1.0, "kW": 1e3}),
    Unit.RATIO: (_FRACTION_WORDS, {"%": 0.01}),
    Unit.NATS: ("a divergence such as 0.02nats", {"nats": 1.0}),
}


class UnitError(ValueError):
    """A value is not a valid quantity; the message has the expected form and the actual value."""

    def __init__(self, expected: str, value: object, why: str = "") -> None:
        super().__init__(f"expected {expected}, got {shown(value)}{f' ({why})' if why else ''}")
        self.expected, self.why = expected, why


def shown(value: object) -> str:
    """Format ``value`` for a message: one short line, in YAML's notation."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    try:
        text = repr(value)
    except ValueError:  # an int above the interpreter's limit for printing
        return "a number with too many digits"
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def _parse(value: object, unit: Unit) -> float:
    """Return ``value`` in base units; a rate may be text without a unit."""
    expected, units = _WRITTEN[unit]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UnitError(expected, value)
    if isinstance(value, str):
        match = _NUMBER_AND_UNIT.fullmatch(value.strip())
        if match is None:
            raise UnitError(expected, value)
        number, written = match[1], match[2]
        if written is None and unit not in (Unit.TOKENS_PER_SECOND, Unit.PER_SECOND):
            raise UnitError(expected, value, "no unit")
        if written is not None and written not in units:
            known = ", ".join(filter(str.isascii, units))
            raise UnitError(expected, value, f"unknown unit; known: {known}")
        result = float(number) * (1.0 if written is None else units[written])
    else:
        try:
            result = float(value)
        except OverflowError:
            raise UnitError(expected, value, "not finite") from None
    if not math.isfinite(result):
        raise UnitError(expected, value, "not finite")
    if result < 0:
        raise UnitError(expected, value, "negative")
    return result


def parse_duration(value: object) -> float:
    """Return seconds from ``"500ms"``, ``"5s"``, ``"2m"`` or a number of seconds.

    Raises:
        UnitError: not a duration, negative, not finite, or text without a unit.
    """
    return _parse(value, Unit.SECONDS)


def parse_fraction(value: object) -> float:
    """Return a fraction from ``"5%"`` or ``0.05``.

    Numbers of 1 and above are refused: ``5`` could mean 5% or a factor of 5.

    Raises:
        UnitError: not a fraction, negative, over 100%, or text without ``%``.
    """
    result = _parse(value, Unit.RATIO)
    if result > 1 or (result == 1 and not isinstance(value, str)):
        raise UnitError(_FRACTION_WORDS, value)
    return result


def parse_tolerance(value: object) -> float:
    """Return a tolerance as a fraction above 0 and below 1.

    Raises:
        UnitError: as ``parse_fraction``, and 0% and 100%.
    """
    result = parse_fraction(value)
    if not 0 < result < 1:
        raise UnitError(_TOLERANCE_WORDS, value)
    return result


def parse_tolerance_setting(value: object) -> ToleranceSetting:
    """Return a tolerance as ``parse_tolerance``, or ``"auto"``.

    Raises:
        UnitError: as ``parse_tolerance``.
    """
    if value == "auto":
        return "auto"
    try:
        return parse_tolerance(value)
    except UnitError as error:
        raise UnitError(f"{error.expected}, or auto", value, error.why) from None


def without_calibration(setting: ToleranceSetting) -> float:
    """Return a configured tolerance as a fraction; ``auto`` gives the default tolerance."""
    return DEFAULT_TOLERANCE if setting == "auto" else setting


def parse_quantity(value: object, unit: Unit) -> float:
    """Return ``value`` in base units of ``unit``.

    Raises:
        UnitError: ``value`` is not a quantity of that kind.
    """
    if unit is Unit.RATIO:
        return parse_fraction(value)
    result = _parse(value, unit)
    return float(round(result)) if unit is Unit.BYTES else result


#: Per unit, the scales to print in, largest first: (factor, text).
_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    Unit.SECONDS: ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    Unit.BYTES: ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    Unit.JOULES: ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")),
    Unit.WATTS: ((1e3, "kW"), (1.0, "W"), (1e-3, "mW")),
    Unit.TOKENS_PER_SECOND: ((1.0, "tok/s"),),
    Unit.PER_SECOND: ((1.0, "/s"),),
    Unit.RATIO: ((0.01, "%"),),
    Unit.NATS: ((1.0, "nats"),),
}


def _scale(value: float, unit: Unit, precision: int) -> tuple[float, str]:
    """Return the largest scale in which ``value``, after rounding, is at least 1."""
    scales = _SCALES[unit]
    if value == 0:
        return next(scale for scale in scales if scale[0] == 1.0 or len(scales) == 1)
    for factor, text in scales:
        if abs(float(f"{value / factor:.{precision - 1}e}")) >= 1:
            return factor, text
    return scales[-1]


def _decimals(scaled: float, unit: Unit, precision: int) -> int:
    """Return the number of decimals for ``precision`` significant digits of ``scaled``."""
    if unit is Unit.BYTES:
        return 1
    if unit is Unit.RATIO:
        return 1 if abs(scaled) < 100 else 0
    if scaled == 0:
        return 0
    exponent = int(f"{scaled:.{precision - 1}e}".split("e")[1])
    return max(0, precision - 1 - exponent)


def _joined(numbers: str, text: str) -> str:
    return f"{numbers}%" if text == "%" else f"{numbers} {text}"


def format_quantity(value: float, unit: Unit, precision: int = 3) -> str:
    """Format ``value`` (base units) for a reader: ``"84.9 tok/s"``, ``"412 ms"``."""
    if not math.isfinite(value):
        return _joined(str(value), _SCALES[unit][0][1])
    factor, text = _scale(value, unit, precision)
    if text == "B":
        return f"{value:.0f} B"
    scaled = value / factor
    return _joined(f"{scaled:.{_decimals(scaled, unit, precision)}f}", text)


def format_interval(
    value: float, low: float, high: float, unit: Unit, precision: int = 3
) -> tuple[str, str, str, str]:
    """Return value, low, high and the unit's text, all in the scale of ``value``.

    Up to two digits more than ``precision`` are used if both ends of a narrow
    interval would otherwise look the same.
    """
    if not all(map(math.isfinite, (value, low, high))):
        return str(value), str(low), str(high), _SCALES[unit][0][1]
    factor, text = _scale(value, unit, precision)
    scaled = value / factor
    decimals = 0 if text == "B" else _decimals(scaled, unit, precision)
    if low < high:
        for _ in range(2):
            if f"{low / factor:.{decimals}f}" != f"{high / factor:.{decimals}f}":
                break
            decimals += 1
    numbers = (f"{number / factor:.{decimals}f}" for number in (value, low, high))
    return (*numbers, text)  # type: ignore[return-value]


def format_with_interval(
    value: float, low: float | None, high: float | None, unit: Unit, precision: int = 3
) -> str:
    """Return ``"84.9 [83.9, 85.7] tok/s"``; without an interval, ``format_quantity``."""
    if low is None or high is None:
        return format_quantity(value, unit, precision)
    mid, lower, upper, text = format_interval(value, low, high, unit, precision)
    return f"{mid} [{lower}, {upper}] {text}"


def format_duration(seconds: float) -> str:
    """Format a duration for a reader: ``"18 s"``, ``"2 min 30 s"``, ``"1 h 5 min"``.

    Below a minute it has three significant digits, from then on whole seconds.
    """
    if not math.isfinite(seconds):
        return f"{seconds} s"
    if seconds and seconds < 0.1:
        return format_quantity(seconds, Unit.SECONDS)
    if float(short := f"{seconds:.3g}") < 60:
        return f"{short} s"
    hours, rest = divmod(round(seconds), 3600)
    parts = ((hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
