"""Load curves: tests that differ only in their load, from the lightest to the heaviest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_llmperf.metrics import METRICS
from pytest_llmperf.report.bounded import bounded
from pytest_llmperf.report.cells import BOLD, NOTHING, paint
from pytest_llmperf.text import columns, display_width, printable, wrap_node_id, wrap_words
from pytest_llmperf.units import format_with_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmperf.report.reported import ReportedSession
    from pytest_llmperf.report.reported_details import ReportedLoad
    from pytest_llmperf.session.result import SessionResult
    from pytest_llmperf.session.shown_load import ShownLoad

#: Metrics of a curve, in the order of its columns; metrics that no point has are left out.
COLUMNS = (
    "requests_per_sec",
    "output_tokens_per_sec",
    "first_token",
    "time_per_output_token",
    "request_latency",
    "goodput",
)
#: Tests under load report a token rate per answer; a curve shows its inverse, time per token.
_RATE, _TIME = "tokens_per_sec", "time_per_output_token"
_LATENCY, _KNEE = "request_latency", 2.0
_PER_SECOND = "requests/s"
_KNEE_LEGEND = (
    "* knee: the heaviest load whose request latency is at most twice that of the lightest; "
)
_LEGEND = "values are medians [95% intervals], and loads were not compared with one another"
_UNDER = ", under load:"


class Figure(NamedTuple):
    """A metric's median and its 95% interval, base unit; ends are None if unknown."""

    value: float
    low: float | None
    high: float | None

    @property
    def inverse(self) -> Figure:
        """The figure of the inverse quantity, exact for an interval computed from logarithms."""
        return Figure(1 / self.value, self.high and 1 / self.high, self.low and 1 / self.low)


@dataclass(frozen=True)
class LoadPoint:
    """One test of a curve.

    Attributes:
        nodeid: node id of the test.
        load: requests per second, or requests in flight.
        figures: metric name -> figure.
        verdict: the test's verdict, or empty.
    """

    nodeid: str
    load: float
    figures: Mapping[str, Figure]
    verdict: str


@dataclass(frozen=True)
class LoadCurve:
    """Tests that send the same requests under different loads.

    Attributes:
        name: node id without parameters.
        unit: unit of the load: ``requests/s`` or ``in flight``.
        points: two or more, from the lightest load to the heaviest.
    """

    name: str
    unit: str
    points: tuple[LoadPoint, ...]

    @property
    def knee(self) -> LoadPoint | None:
        """The last point before latency is unknown or over twice that of the lightest load."""
        latencies = [point.figures.get(_LATENCY) for point in self.points]
        if latencies[0] is None:
            return None
        bound = _KNEE * latencies[0].value
        for before, latency in zip(self.points, latencies[1:], strict=False):
            if latency is None or latency.value > bound:
                return before
        return None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "name": self.name,
            "unit": self.unit,
            "knee": None if self.knee is None else self.knee.load,
            "points": [
                {
                    "nodeid": point.nodeid,
                    "load": point.load,
                    "verdict": point.verdict or None,
                    "metrics": {
                        name: {
                            "value": point.figures[name].value,
                            "low": bounded(point.figures[name].low),
                            "high": bounded(point.figures[name].high),
                        }
                        for name in COLUMNS
                        if name in point.figures
                    },
                }
                for point in self.points
            ],
        }

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that at least one point has."""
        return [name for name in COLUMNS if any(name in point.figures for point in self.points)]

    def rows(self) -> list[tuple[str, ...]]:
        """Return a header, and a row of texts for each point."""
        names = self.metrics
        load_label = "asked" if self.unit == _PER_SECOND else self.unit
        table = [(load_label, *(METRICS[name].label for name in names), "")]
        for point in self.points:
            mark = " *" if point is self.knee else ""
            cells = (_text(name, point.figures.get(name)) for name in names)
            table.append((f"{point.load:g}{mark}", *cells, point.verdict))
        return table


def curves_of_session(session: SessionResult) -> list[LoadCurve]:
    """Return the load curves of a session."""
    tests = []
    for test in session.tests:
        figures = {
            row.check.metric.name: Figure(row.summary.value, row.summary.low, row.summary.high)
            for row in test.rows
            if row.summary is not None
        }
        verdict = test.worst.kind.value if test.worst is not None else ""
        tests.append((test.nodeid, test.workload, test.load, figures, verdict))
    return _curves(tests)


def curves_of_report(report: ReportedSession) -> list[LoadCurve]:
    """Return the load curves of a report."""
    tests = []
    for test in report.tests:
        figures = {
            metric.name: Figure(metric.value, metric.low, metric.high)
            for metric in test.metrics
            if metric.value is not None
        }
        verdict = test.worst.value if test.worst is not None else ""
        tests.append((test.nodeid, test.workload.summary, test.load, figures, verdict))
    return _curves(tests)


def _curves(
    tests: Sequence[tuple[str, str, ShownLoad | ReportedLoad | None, dict[str, Figure], str]],
) -> list[LoadCurve]:
    """Group tests by name without parameters, by requests, and by kind of load."""
    groups: dict[tuple[str, str, str], list[LoadPoint]] = {}
    for nodeid, workload, sent, figures, verdict in tests:
        if sent is None:
            continue
        load = sent.rate if sent.concurrency is None else sent.concurrency
        if load is None:
            continue
        if _RATE in figures and figures[_RATE].value:
            figures.setdefault(_TIME, figures[_RATE].inverse)
        group = nodeid.partition("[")[0], workload.partition(_UNDER)[0], sent.arrivals
        groups.setdefault(group, []).append(LoadPoint(nodeid, load, figures, verdict))
    return [
        LoadCurve(
            name,
            "in flight" if arrivals == "closed" else _PER_SECOND,
            tuple(sorted(points, key=lambda point: point.load)),
        )
        for (name, _, arrivals), points in groups.items()
        if len({point.load for point in points}) > 1
    ]


def legend(curves: Iterable[LoadCurve]) -> str:
    """Explain the tables of these curves."""
    has_knee = any(curve.knee is not None for curve in curves)
    return f"{_KNEE_LEGEND if has_knee else ''}{_LEGEND}"


def load_curve_lines(session: SessionResult, width: int, color: bool) -> list[str]:
    """Draw every load curve of a session as a table, with an empty line before each."""
    lines: list[str] = []
    curves = curves_of_session(session)
    for curve in curves:
        lines += ["", *(paint(line, BOLD, color) for line in wrap_node_id(curve.name, width))]
        lines += _table(curve.rows(), width)
    return lines + wrap_words(legend(curves), width) if curves else []


def _table(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Split a curve into tables that fit, each with the load and as many metrics as possible."""
    lines: list[str] = []
    first, at = 1, 2
    while first < len(rows[0]):
        while at < len(rows[0]) and _fits(_part(rows, first, at + 1), width):
            at += 1
        lines += _part(rows, first, at)
        first, at = at, at + 1
    return lines


def _part(rows: Sequence[tuple[str, ...]], first: int, end: int) -> list[str]:
    drawn = columns([(row[0], *row[first:end]) for row in rows], 2)
    return [f"  {printable(line)}".rstrip() for line in drawn]


def _fits(lines: Sequence[str], width: int) -> bool:
    return max(map(display_width, lines)) <= width


def _text(name: str, figure: Figure | None) -> str:
    return NOTHING if figure is None else format_with_interval(*figure, METRICS[name].unit)
