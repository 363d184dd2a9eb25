"""Quantities of a report as text, and the scale a chart shows them in."""

from __future__ import annotations

import html
from typing import NamedTuple

from pytest_llmperf.metrics import Unit
from pytest_llmperf.report.html.report_data import PageRow
from pytest_llmperf.text import printable
from pytest_llmperf.units import (
    UnitError,
    format_interval,
    format_quantity,
    format_with_interval,
    parse_quantity,
)

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
_UNITS = {unit.value: unit for unit in Unit}


class Scale(NamedTuple):
    """A unit people read, and how much of the base unit it is: 0.001 for ``ms``."""

    factor: float
    text: str


def text(words: object) -> str:
    """Return any text for HTML: control and invisible characters as escapes, markup as text."""
    return html.escape(printable(str(words)), quote=True)


def quantity(row: PageRow, value: float | None) -> str:
    """Return a value of a metric: ``84.9 tok/s``."""
    if value is None:
        return NOTHING
    unit = _UNITS.get(row.unit)
    return f"{value:.4g} {row.unit}" if unit is None else format_quantity(value, unit)


def interval(row: PageRow, value: float | None, low: float | None, high: float | None) -> str:
    """Return a value with its interval: ``84.9 [83.9, 85.7] tok/s``."""
    unit = _UNITS.get(row.unit)
    if value is None or unit is None:
        return quantity(row, value)
    return format_with_interval(value, low, high, unit)


def target(row: PageRow) -> str:
    """Return the limit as a relation: ``≥ 60 tok/s``."""
    if row.limit is None:
        return NOTHING
    unit = _UNITS.get(row.unit)
    shown = quantity(row, row.limit)
    if unit is not None:
        number, space, name = format_quantity(row.limit, unit, precision=6).partition(" ")
        percent = number.endswith("%")
        number = number.removesuffix("%")
        if "." in number:
            number = number.rstrip("0").rstrip(".")
        shown = f"{number}{'%' if percent else ''}{space}{name}"
    return f"{'≥' if row.direction == 'higher' else '≤'} {shown}"


def change(row: PageRow, slowdown: float | None) -> str:
    """Return a slowdown in words: ``5.2% slower``."""
    if slowdown is None:
        return NOTHING
    size = f"{abs(slowdown):.1%}"
    if size == "0.0%":
        return "no change"
    is_speed = row.unit in (Unit.SECONDS.value, Unit.TOKENS_PER_SECOND.value)
    worse, better = ("slower", "faster") if is_speed else ("worse", "better")
    return f"{size} {worse if slowdown > 0 else better}"


def scale(row: PageRow, value: float | None) -> Scale:
    """Return the scale that suits values around ``value``."""
    unit = _UNITS.get(row.unit)
    if unit is None or not value:
        return Scale(1.0, row.unit)
    name = format_interval(value, value, value, unit)[-1]
    try:
        return Scale(parse_quantity(f"1 {name}", unit), name)
    except UnitError:
        return Scale(1.0, row.unit)
