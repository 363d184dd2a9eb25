"""Quantities of a report as text, and the scales in which charts show them."""

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
#: GPU counter -> label, unit and size of the unit, in the order to show them.
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
    """A unit for readers, and its size in base units: 0.001 for ``ms``."""

    factor: float
    text: str


def text(words: object) -> str:
    """Escape any text for HTML, control and invisible characters included."""
    return html.escape(printable(str(words)), quote=True)


def quantity(check: ReportedCheck, value: float | None) -> str:
    """Return a value with its unit: ``84.9 tok/s``."""
    return NOTHING if value is None else format_quantity(value, check.unit)


def target(check: ReportedCheck) -> str:
    """Return the limit with its direction: ``≥ 60 tok/s``."""
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
