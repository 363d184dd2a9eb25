"""Limits on the numbers in a file: intervals from very few samples can have enormous ends."""

from __future__ import annotations

from pytest_llmperf.stored_json import LARGEST_NUMBER


def bounded(value: float | None) -> float | None:
    """Return a number, or None if it is too large to be a measurement."""
    return None if value is None or abs(value) > LARGEST_NUMBER else value
