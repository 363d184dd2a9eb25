"""The figures of a reported check as short texts: measurement, target, baseline, change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import change_words, effect_words
from pytest_llmperf.report.cells import NOTHING, target_text
from pytest_llmperf.units import format_quantity, format_with_interval

if TYPE_CHECKING:
    from pytest_llmperf.report.reported_checks import ReportedCheck


def measured(check: ReportedCheck) -> str:
    """Return median and interval: ``84.9 [83.9, 85.7] tok/s``; ``-`` if nothing was measured."""
    if check.value is None:
        return NOTHING
    return format_with_interval(check.value, check.low, check.high, check.unit)


def target(check: ReportedCheck) -> str:
    """Return the target: ``>=60 tok/s``; ``-`` without a target."""
    return target_text(check.limit, check.metric)


def baseline(check: ReportedCheck) -> str:
    """Return the baseline's level: ``86.2 tok/s``; ``-`` without a baseline."""
    if check.baseline is None:
        return NOTHING
    return format_quantity(check.baseline.value, check.unit)


def change_size(check: ReportedCheck) -> str:
    """Return the change without its interval; ``-`` if there is none."""
    return NOTHING if check.change is None else change_words(check.metric, check.change)


def change(check: ReportedCheck) -> str:
    """Return the change, with its interval if the verdict rests on it; ``-`` if there is none."""
    size, proof = check.change, check.proof
    if size is None:
        return NOTHING
    if (
        proof is not None
        and proof.low is not None
        and proof.high is not None
        # A proof may be about the distance from the target instead.
        and check.strategy != "target"
        and proof.low <= size <= proof.high
    ):
        return effect_words(check.metric, size, proof.low, proof.high)
    return change_size(check)


def figures_line(check: ReportedCheck) -> str:
    """Return all figures in one line: ``84.9 tok/s, target >=60 tok/s, 0.8% faster``."""
    named = (
        ("", measured(check)),
        ("target ", target(check)),
        ("baseline ", baseline(check)),
        ("", change(check)),
    )
    return ", ".join(f"{name}{text}" for name, text in named if text != NOTHING)
