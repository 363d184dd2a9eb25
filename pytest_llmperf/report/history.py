"""The history as text: a sparkline per metric, the changes of level, and commands to copy."""

from __future__ import annotations

from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmperf.gate.words import change_words, count, effect_words, listed
from pytest_llmperf.history.change_points import INSTALL, MIN, SESSIONS_PER_FALSE_FIND
from pytest_llmperf.text import display_width, pad, printable, shell_word, wrap_node_id, wrap_words
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_llmperf.history.build import History
    from pytest_llmperf.history.events import Event
    from pytest_llmperf.history.series import DecisionMark, Group, Series
    from pytest_llmperf.history.sessions import PlacedSession

#: Bars of a sparkline in eight heights, from low to high.
BLOCKS = "▁▂▃▄▅▆▇█"
#: The same bars for terminals that show only ASCII.
ASCII = "_.-:=+*#"
#: Smallest range that a sparkline spans, as a share of the level: the default tolerance.
_HEIGHT = 0.05
#: Number of oldest and of newest sessions whose medians are shown.
_ENDS = 10
_HEADER = ("metric", "first", "last", "change")
_KINDS = {"accept": "accepted", "anchor": "anchor"}


def history_lines(history: History, width: int, bars: str = BLOCKS) -> list[str]:
    """Write the history in lines of at most ``width`` columns, except for commands."""
    lines: list[str] = []
    tables = zip(history.groups, history.events, strict=True)
    for machine, of_machine in groupby(tables, key=lambda pair: pair[0].subject.machine):
        groups = list(of_machine)
        lines += wrap_words(_machine_words(machine, history, [g for g, _ in groups]), width)
        earlier: Group | None = None
        for group, events in groups:
            lines += ["", *_group_lines(group, earlier, events, history, width, bars)]
            earlier = group
        lines.append("")
    return [*lines, *wrap_words(_legend(history), width, indent="")]


def _machine_words(machine: str, history: History, groups: Sequence[Group]) -> str:
    shown = {
        int(i) for group in groups for series in group.series for i in series.sessions[[0, -1]]
    }
    days = sorted(history.sessions[i].day for i in shown)
    sessions = max(len(series.sessions) for group in groups for series in group.series)
    spread = f"{days[0]} to {days[-1]}" if days[0] != days[-1] else f"on {days[0]}"
    return f"{machine}: {spread}, up to {count(sessions, 'session')} of a test"


def _group_lines(
    group: Group,
    earlier: Group | None,
    events: Sequence[Event],
    history: History,
    width: int,
    bars: str,
) -> Iterator[str]:
    yield from wrap_node_id(group.subject.nodeid, width)
    yield from wrap_words(_group_words(group, history), width, indent="  ", first="  ")
    if split := _split_words(group, earlier):
        yield from wrap_words(split, width, indent="  ", first="  ")
    yield from _table(group, events, width, bars)
    for number, event in enumerate(events, start=1):
        yield from _event_lines(number, event, group.subject.nodeid, width)
    for mark in group.marks:
        words = _mark_words(mark, history.sessions[mark.session])
        yield from wrap_words(words, width, indent="    ", first="  ")


def _group_words(group: Group, history: History) -> str:
    sessions = max(group.series, key=lambda series: len(series.sessions)).sessions
    first, last = (history.sessions[i] for i in (sessions[0], sessions[-1]))
    text = f"{group.model}: {group.summary}; {count(len(sessions), 'session')}"
    text += f", {first.day} to {last.day}" if first.day != last.day else f", {first.day}"
    if group.invalid:
        text += f"; {group.invalid} invalid left out"
    return text


def _split_words(group: Group, earlier: Group | None) -> str:
    """Explain how a table differs from the one above of the same test; empty for its first."""
    if earlier is None or earlier.subject.nodeid != group.subject.nodeid:
        return ""
    differences = []
    if earlier.subject.model != group.subject.model:
        differences.append(f"another model (above: {earlier.model})")
    if earlier.subject.workload != group.subject.workload:
        same_size = earlier.summary == group.summary
        above = "of the same size" if same_size else f"above: {earlier.summary}"
        differences.append(f"another workload ({above})")
    return f"{listed(differences)}: not compared"


def _table(group: Group, events: Sequence[Event], width: int, bars: str) -> Iterator[str]:
    rows = [_cells(series) for series in group.series]
    widths = [max(map(display_width, column)) for column in zip(_HEADER, *rows, strict=True)]
    room = max(5, width - 2 - sum(widths) - 2 * len(widths))
    drawn = min(room, max(len(series.sessions) for series in group.series))
    middle = max(drawn, display_width(title := "old to new"))
    if middle > room:
        title, middle = "", drawn
    yield _line(_HEADER, title, widths, middle)
    for series, cells in zip(group.series, rows, strict=True):
        line = sparkline(series.values, room, _HEIGHT, bars)
        yield _line(cells, line, widths, middle)
        if series.changes:
            yield " " * (4 + widths[0]) + _markers(series, events, room)


def _cells(series: Series) -> tuple[str, ...]:
    values, metric = series.values, series.metric
    # With only a few sessions, a median would hide the newest measurement.
    ends = min(_ENDS, len(values) // 2) if len(values) >= _ENDS else 1
    first, last = float(median(values[:ends])), float(median(values[-ends:]))
    if metric is None:
        shown = [f"{value:.3g} {printable(series.unit)}" for value in (first, last)]
        return (printable(series.name), *shown, "-")
    shown = [format_quantity(value, metric.unit) for value in (first, last)]
    return (metric.label, *shown, change_words(metric, metric.slowdown(last, first)))


def _line(cells: Sequence[str], line: str, widths: Sequence[int], middle: int) -> str:
    name, *rest = (pad(text, wide) for text, wide in zip(cells, widths, strict=True))
    return "  " + "  ".join((name, line + " " * (middle - len(line)), *rest)).rstrip()


def _markers(series: Series, events: Sequence[Event], room: int) -> str:
    """Write ``^1`` below the bar where a change starts; leave out marks that would overlap."""
    numbers = {
        change.index: number
        for number, event in enumerate(events, start=1)
        for other, change in event.effects
        if other is series
    }
    line = ""
    for change in series.changes:
        column = column_of(change.index, len(series.values), room)
        if column < len(line):
            continue
        line = line.ljust(column) + f"^{numbers[change.index]}"
    return line


def _event_lines(number: int, event: Event, nodeid: str, width: int) -> Iterator[str]:
    effects = "; ".join(
        f"{metric.label} {effect_words(metric, change.effect, change.low, change.high)}"
        for series, change in event.effects
        if (metric := series.metric) is not None
    )
    text = f"{effects} {_between(event)}"
    yield from wrap_words(text, width, indent="     ", first=f"  {number}: ")
    before, after, cause = event.before, event.after, event.cause
    if not cause.commits or before.commit is None or after.commit is None:
        return
    commits = before.commit[:12], after.commit[:12]
    yield f"     git log --oneline {commits[0]}..{commits[1]}"
    if cause.commits > 1 and cause.in_line:
        yield f"     llmperf bisect {commits[0]} {commits[1]} {shell_word(nodeid)}"


def _between(event: Event) -> str:
    cause = event.cause
    text = f"between {_session_words(event.before)} and {_session_words(event.after)}"
    if cause.why_unknown:
        return f"{text}: {cause.why_unknown}"
    if not cause.commits:
        return f"{text}: the later session has no commit that the earlier one lacks"
    subject = f", {cause.subject}" if cause.subject else ""
    return f"{text}: {count(cause.commits, 'commit')}{subject}"


def _session_words(session: PlacedSession) -> str:
    commit = session.commit[:12] if session.commit else "no commit"
    return f"{commit}{' with changes' if session.dirty else ''} ({session.day})"


def _mark_words(mark: DecisionMark, session: PlacedSession) -> str:
    when = f" on {mark.when}" if mark.when else ""
    return f"{_KINDS.get(mark.kind, mark.kind)}{when}: {_session_words(session)}, {mark.reason}"


def _legend(history: History) -> str:
    text = (
        "first, last: the median of the ten oldest and the ten newest sessions (of half of them "
        "where there are fewer than twenty, of one where there are fewer than ten); change: from "
        "first to last. A line is as high as its values differ, at least 5%."
    )
    if history.library is None:
        return f"{text} Change points are not looked for; to find them: {INSTALL}"
    return (
        f"{text} ^ marks a change of level: where nothing changed, less than one is marked in "
        f"{SESSIONS_PER_FALSE_FIND:,} sessions; a level has at least {MIN} sessions. It happened "
        "between the two sessions named, at 95%."
    )


def bars_for(encoding: str | None) -> str:
    """Return the sparkline bars that an encoding can show."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def sparkline(
    values: Sequence[float] | NDArray[np.float64], width: int, min_range: float, bars: str = BLOCKS
) -> str:
    """Draw values as bars, at most one per value and at most ``width``.

    With more values than bars, each bar shows the median of its values. The scale spans
    at least the share ``min_range`` of the middle, so that noise does not look
    like a mountain range. Empty for no values.
    """
    if not len(values):
        return ""
    columns = min(width, len(values))
    cuts = np.arange(1, columns) * len(values) // columns
    drawn = [float(np.median(bar)) for bar in np.split(np.array(values, np.float64), cuts)]
    low, high = min(drawn), max(drawn)
    missing = min_range * (low + high) / 2 - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    step = (high - low) / len(bars)
    top = len(bars) - 1
    return "".join(bars[min(top, int((value - low) / step)) if step > 0 else 0] for value in drawn)


def column_of(index: int, values: int, width: int) -> int:
    """Return the column in which ``sparkline`` draws the value at ``index``.

    It is the last column that starts at or before the value.
    """
    return ((index + 1) * min(width, values) - 1) // values
