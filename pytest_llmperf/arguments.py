"""Argument types for argparse: whole numbers, shares, tolerances and durations."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole_number(minimum: int = 1, why: str = "") -> Callable[[str], int]:
    """Return an argparse type for whole numbers; ``why`` ends the error's text."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"expected an integer >= {minimum}{why}, got {text!r}")
        return number

    return read


def share(text: str) -> float:
    """Read a share such as ``5%``, as a fraction."""
    from pytest_llmperf.units import parse_fraction

    return _quantity(text, parse_fraction)


def tolerance(text: str) -> float:
    """Read a tolerance such as ``5%``, as a fraction."""
    from pytest_llmperf.units import parse_tolerance

    return _quantity(text, parse_tolerance)


def duration(text: str) -> float:
    """Read a time above 0 such as ``60s``, in seconds."""
    from pytest_llmperf.units import parse_duration

    seconds = _quantity(text, parse_duration)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"expected a duration above 0 such as 60s, got {text!r}")
    return seconds


def _quantity(text: str, parse: Callable[[str], float]) -> float:
    from pytest_llmperf.units import UnitError

    try:
        return parse(text)
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
