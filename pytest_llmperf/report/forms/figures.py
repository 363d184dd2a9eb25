"""The figures of a reported check as short texts: what was measured, its target, its change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import change_words, effect_words
from pytest_llmperf.report.cells import NOTHING, target_text
from pytest_llmperf.units import format_quantity, format_with_interval

if TYPE_CHECKING:
    from pytest_llmperf.report.reported_checks import ReportedCheck


def measured(check: ReportedCheck) -> str:
    """The median and its interval: ``84.9 [83.9, 85.7] tok/s``; ``-`` if nothing was measured."""
    if check.value is None:
        return NOTHING
    return format_with_interval(check.value, check.low, check.high, check.unit)


def target(check: ReportedCheck) -> str:
    """The target as a relation: ``>=60 tok/s``; ``-`` without one."""
    return target_text(check.limit, check.metric)


def baseline(check: ReportedCheck) -> str:
    """The level that it was compared with: ``86.2 tok/s``; ``-`` without one."""
    if check.baseline is None:
        return NOTHING
    return format_quantity(check.baseline.value, check.unit)


def change_size(check: ReportedCheck) -> str:
    """The change without its interval; ``-`` without one."""
    return NOTHING if check.change is None else change_words(check.metric, check.change)


def change(check: ReportedCheck) -> str:
    """The change and, where the verdict rests on it, its interval; ``-`` without one."""
    size, proof = check.change, check.proof
    if size is None:
        return NOTHING
    if (
        proof is not None
        and proof.low is not None
        and proof.high is not None
        # A proof may also be of the distance from the target.
        and check.strategy != "target"
        and proof.low <= size <= proof.high
    ):
        return effect_words(check.metric, size, proof.low, proof.high)
    return change_size(check)


def figures_line(check: ReportedCheck) -> str:
    """All of them in one line, such as ``84.9 tok/s, target >=60 tok/s, 0.8% faster``."""
    named = (
        ("", measured(check)),
        ("target ", target(check)),
        ("baseline ", baseline(check)),
        ("", change(check)),
    )
    return ", ".join(f"{name}{text}" for name, text in named if text != NOTHING)
