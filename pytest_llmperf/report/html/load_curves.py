"""The load curves of a page: each a table with drawings, which need no script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.metrics import METRICS
from pytest_llmperf.report.html.values import text
from pytest_llmperf.report.load_curve import LoadCurve, curves_of_report, legend
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.report.load_curve import Figure, LoadPoint
    from pytest_llmperf.report.reported import ReportedSession

_WIDTH, _HEIGHT, _MARGIN = 320, 140, 12
#: Room below the axis, and smallest distance between two of its labels.
_BELOW, _APART = 14, 30
_DRAWING_LEGEND = (
    "drawings: both axes begin at zero; the line joins the medians, upright bars are their 95% "
    "intervals, cut off at twice the median, and the dashed line is at the knee"
)
#: Metrics drawn over the load, if they were measured.
_DRAWN = (
    "first_token",
    "time_per_output_token",
    "request_latency",
    "output_tokens_per_sec",
    "goodput",
)


def load_curves(report: ReportedSession) -> str:
    """Return the section of the load curves; empty if there are none."""
    curves = curves_of_report(report)
    if not curves:
        return ""
    parts = "".join(map(_curve, curves))
    return (
        f"<section><h2>Load</h2>{parts}<p class='off'>{text(legend(curves))}</p>"
        f"<p class='off'>{text(_DRAWING_LEGEND)}</p></section>"
    )


def _curve(curve: LoadCurve) -> str:
    head, *rows = curve.rows()
    drawings = "".join(_drawing(curve, name) for name in _DRAWN if name in curve.metrics)
    body = "".join(f"<tr>{_cells('td', row)}" for row in rows)
    return (
        f"<h3>{text(curve.name)}</h3><table class=plain><thead><tr>{_cells('th', head)}</thead>"
        f"<tbody>{body}</tbody></table>"
        f"<div class=curves>{drawings}</div>"
    )


def _cells(tag: str, cells: tuple[str, ...]) -> str:
    return "".join(f"<{tag}>{text(cell)}" for cell in cells)


def _drawing(curve: LoadCurve, name: str) -> str:
    """Draw a metric over the load: a line through the medians, intervals, and a dashed knee."""
    metric = METRICS[name]
    points = [(point, point.figures[name]) for point in curve.points if name in point.figures]
    heaviest = curve.points[-1].load
    highest = max(_high(figure) for _, figure in points) or 1.0

    def across(point: LoadPoint) -> float:
        return (_WIDTH - _MARGIN) * point.load / heaviest

    def up(value: float) -> float:
        return _HEIGHT - (_HEIGHT - _MARGIN) * min(max(value / highest, 0.0), 1.0)

    middle = " ".join(f"{across(point):.1f},{up(figure.value):.1f}" for point, figure in points)
    bars = "".join(
        f"M{across(point):.1f},{up(_low(figure)):.1f}V{up(_high(figure)):.1f}"
        for point, figure in points
    )
    knee = "" if curve.knee is None else f"M{across(curve.knee):.1f},0V{_HEIGHT}"
    top = format_quantity(highest, metric.unit)
    title = f"{metric.label}, up to {top}, over {curve.unit}, up to {heaviest:g}"
    return (
        f'<figure><svg class=curve viewBox="0 0 {_WIDTH} {_HEIGHT + _BELOW}" role="img">'
        f'<title>{text(title)}</title><path class=axis d="M0,0V{_HEIGHT}H{_WIDTH}"/>'
        f'<path class=bars d="{bars}"/><path class=knee d="{knee}"/><polyline points="{middle}"/>'
        f'<text x="4" y="{_MARGIN}">{text(top)}</text>'
        f"{_load_labels([(across(point), point.load) for point, _ in points])}</svg>"
        f"<figcaption>{text(metric.label)} <span>over {text(curve.unit)}</span></figcaption>"
        "</figure>"
    )


def _load_labels(places: Sequence[tuple[float, float]]) -> str:
    """Write the loads below the axis, from the heaviest down, skipping any without room."""
    drawn, left = [], float("inf")
    for x, load in reversed(places):
        if left - x >= _APART:
            drawn.append(
                f'<text class=below x="{x:.1f}" y="{_HEIGHT + _BELOW - 3}">{load:g}</text>'
            )
            left = x
    return "".join(drawn)


def _low(figure: Figure) -> float:
    return figure.value if figure.low is None else figure.low


def _high(figure: Figure) -> float:
    """Return the interval's upper end; clipped, as very few samples would dwarf the rest."""
    return figure.value if figure.high is None else min(figure.high, 2 * figure.value)
