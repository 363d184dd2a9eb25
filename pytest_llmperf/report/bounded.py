"""Ends of intervals that are numbers for a file: those of very few samples are beyond measure."""

from __future__ import annotations

from pytest_llmperf.stored_json import LARGEST_NUMBER


def bounded(value: float | None) -> float | None:
    """Return a number; None for one that is too large to be a measurement."""
    return None if value is None or abs(value) > LARGEST_NUMBER else value
