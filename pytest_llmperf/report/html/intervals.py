"""The table of a test's metrics, with SVG drawings of interval, target and baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import change_words, count
from pytest_llmperf.report.forms import figures
from pytest_llmperf.report.forms.headline import NOT_MEASURED
from pytest_llmperf.report.html.values import NOTHING, quantity, target, text
from pytest_llmperf.report.reported_checks import PROVEN, ShownMetric

if TYPE_CHECKING:
    from pytest_llmperf.report.reported_checks import ReportedBaseline, ReportedCheck

_WIDTH = 200
#: Free space at each end of an axis, as a share of its range.
_MARGIN = 0.08

_HEAD = (
    "<thead><tr><th>metric<th>this session, 95% interval<th>"
    "<th>target<th>compared with<th>verdict</thead>"
)
#: Legend of the drawings, shown once per page.
LEGEND = (
    '<p class="legend"><svg aria-hidden="true"><path d="M70,10h56"/>'
    '<path d="M84,15h28M98,12v6"/><path d="M40,7h44M62,2v10"/><path d="M160,1v18"/></svg>'
    "<span>thick line with a tick: this session and its 95% interval; thin line with a tick: what "
    "it is compared with; shaded: within the tolerance; dashed: the target. Each metric has its "
    "own axis.</span></p>"
)


def metrics_table(rows: Sequence[ReportedCheck]) -> str:
    """Return the table of a test's metrics, each with the reason for its verdict."""
    return (
        f'<table class="metrics">{_HEAD}<tbody>{"".join(map(_row, rows))}</tbody></table>'
        if rows
        else "<p>Nothing was measured.</p>"
    )


def _row(row: ReportedCheck) -> str:
    verdict = badge(row.verdict.value) if row.verdict else '<span class="off">shown only</span>'
    reasons = "<br>".join(text(line) for line in _reasons(row))
    return (
        f"<tr><th>{text(row.label)}<td>{text(_measured(row))}"
        f"<td>{_drawing(row, row.baseline)}<td>{text(target(row))}<td>{text(_compared(row))}"
        f"<td>{verdict} {reasons}"
    )


def badge(kind: str) -> str:
    """Return a verdict in its colour, as a word that is clear without the colour."""
    return f"<b class={tone(kind)}>{text(kind)}</b>"


def tone(kind: str | None) -> str:
    """Return the CSS class that colours a verdict."""
    if kind in ("error", "regressed", "missed", NOT_MEASURED):
        return "bad"
    if kind in ("pass", "improved"):
        return "good"
    return "off" if kind is None else "warn"


def _reasons(row: ReportedCheck) -> Iterator[str]:
    # For a pass the claim is enough; what it had to prove is the same in all rows.
    if reason := row.claim if row.verdict in PROVEN and row.claim else row.explanation:
        yield reason
    yield from (note for note in row.notes if note not in (row.explanation or ""))


def _measured(row: ReportedCheck) -> str:
    return NOTHING if row.value is None else figures.measured(row)


def _compared(row: ReportedCheck) -> str:
    baseline = row.baseline
    if baseline is None:
        return NOTHING
    level = quantity(row, baseline.value)
    if baseline.sessions:
        level += f" ({count(baseline.sessions, 'session')})"
    if row.change is None:
        return level
    change = change_words(row.metric, row.change)
    # The verdict's claim, in the next column, may begin with the change.
    return level if (row.claim or "").startswith(change) else f"{level}, {change}"


def _drawing(row: ReportedCheck, baseline: ReportedBaseline | None) -> str:
    """Draw interval, target, baseline and tolerance on one axis; empty without a value."""
    value = row.value
    if value is None:
        return ""
    tolerated = _tolerated(row, baseline)
    shown = [value, row.low, row.high, row.limit, *(tolerated or ())]
    if baseline is not None:
        shown += [baseline.value, baseline.low, baseline.high]
    numbers = [number for number in shown if number is not None]
    low, high = min(numbers), max(numbers)
    if high <= low:
        low, high = low - abs(low) * 0.05 - 1e-12, high + abs(high) * 0.05 + 1e-12
    room = (high - low) * _MARGIN
    low, high = low - room, high + room

    def at(number: float) -> int:
        return int((number - low) / (high - low) * _WIDTH + 0.5)

    # A page may have thousands of drawings, so each is four unquoted paths in a fixed order.
    tolerance = baselined = limit = ""
    if tolerated is not None:
        begin, end = map(at, tolerated)
        tolerance = f"M{begin},10h{max(end - begin, 1)}"
    if baseline is not None:
        baselined = f"{_line(baseline.low, baseline.high, at, 15)}M{at(baseline.value)},12v6"
    own = f"{_line(row.low, row.high, at, 7)}M{at(value)},2v10"
    if row.limit is not None:
        limit = f"M{at(row.limit)},1v18"
    paths = (tolerance, baselined, own, limit)
    return f"<svg>{''.join(f'<path d={path} />' if path else '<path />' for path in paths)}</svg>"


def _line(low: float | None, high: float | None, at: Callable[[float], int], height: int) -> str:
    """Return the path from one end of an interval to the other; empty without an interval."""
    if low is None or high is None:
        return ""
    return f"M{at(low)},{height}h{max(at(high) - at(low), 1)}"


def _tolerated(row: ReportedCheck, baseline: ReportedBaseline | None) -> tuple[float, float] | None:
    """Return the range of levels within the tolerance around the baseline."""
    if baseline is None or not isinstance(row, ShownMetric) or not row.gated or row.change is None:
        return None
    factor = 1.0 + row.tolerance
    return baseline.value / factor, baseline.value * factor
