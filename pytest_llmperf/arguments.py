"""Values on command lines, pytest's and our own: whole numbers, shares and times, for argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole_number(least: int = 1, why: str = "") -> Callable[[str], int]:
    """Return what reads a whole number of at least so much; ``why`` ends the error's text."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() else least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"expected an integer >= {least}{why}, got {text!r}")
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
