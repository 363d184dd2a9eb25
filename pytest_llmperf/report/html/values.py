"""Quantities of a report as text, and the scale a chart shows them in."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

from pytest_llmperf.gate.words import limit_text
from pytest_llmperf.metric_types import Direction
from pytest_llmperf.text import printable
from pytest_llmperf.units import UnitError, format_interval, format_quantity, parse_quantity

if TYPE_CHECKING:
    from pytest_llmperf.report.reported_checks import ReportedCheck

NOTHING = "–"
#: Label, unit, and size of the unit of a GPU's counters, in the order to show them.
GPU_COUNTERS = {
    "power_w": ("power", "W", 1.0),
    "temperature_c": ("temperature", "°C", 1.0),
    "sm_mhz": ("clock", "MHz", 1.0),
    "memory_mhz": ("memory clock", "MHz", 1.0),
    "gpu_busy": ("busy", "%", 0.01),
    "memory_busy": ("memory busy", "%", 0.01),
    "memory_used": ("memory in use", "GiB", 2.0**30),
    "engine_memory": ("memory of the engine", "GiB", 2.0**30),
    "other_memory": ("memory of others", "GiB", 2.0**30),
}


class Scale(NamedTuple):
    """A unit people read, and how much of the base unit it is: 0.001 for ``ms``."""

    factor: float
    text: str


def text(words: object) -> str:
    """Return any text for HTML: control and invisible characters as escapes, markup as text."""
    return html.escape(printable(str(words)), quote=True)


def quantity(check: ReportedCheck, value: float | None) -> str:
    """Return a value of a metric: ``84.9 tok/s``."""
    return NOTHING if value is None else format_quantity(value, check.unit)


def target(check: ReportedCheck) -> str:
    """Return the limit as a relation: ``≥ 60 tok/s``."""
    if check.limit is None:
        return NOTHING
    sign = "≥" if check.direction is Direction.HIGHER else "≤"
    return f"{sign} {limit_text(check.limit, check.metric)}"


def scale(check: ReportedCheck, value: float | None) -> Scale:
    """Return the scale that suits values around ``value``."""
    unit = check.unit
    if not value:
        return Scale(1.0, unit.value)
    name = format_interval(value, value, value, unit)[-1]
    try:
        return Scale(parse_quantity(f"1 {name}", unit), name)
    except UnitError:
        return Scale(1.0, unit.value)
