"""The history for other programs, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
from typing import IO, TYPE_CHECKING, Any

from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_llmperf.history.build import History
    from pytest_llmperf.history.change_points import ChangePoint
    from pytest_llmperf.history.events import Event
    from pytest_llmperf.history.series import Group, Series


SCHEMA_VERSION = 1

#: Characters that start a formula in a spreadsheet, full-width forms included.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_COLUMNS = (
    "machine",
    "test",
    "model",
    "workload",
    "metric",
    "unit",
    "recorded",
    "commit",
    "dirty",
    "file",
    "value",
    "change_point",
    "slowdown",
    "slowdown_low",
    "slowdown_high",
)


def history_json(history: History) -> str:
    """Return the history as JSON text.

        {schema, folder, library,
         sessions: [{file, recorded, commit, dirty, machine, in_history}],
         tests: [{machine, nodeid, model, model_sha256, workload, summary, invalid,
                  marks: [{kind, session, reason, decided}],
                  metrics: {name: {unit, direction, sessions [index], values [number],
                                   change_points: [{index, last_before, first_after, slowdown,
                                                    low, high}]}},
                  changes: [{before, after, commits, subject, searchable, why_not,
                             metrics: {name: {slowdown, low, high}}}]}],
         unreadable: {file: reason and remedy}, gap}

    Sessions are in the order of their commits and are referred to by index; indices in
    ``change_points`` are into the metric's own ``sessions``. Values are in ``unit``,
    slowdowns are fractions, above 0 is slower. ``library`` is null if change points were not
    searched for. ``model_sha256`` is null for an engine without a model file.
    """
    index: dict[int, int] = {}
    for group in history.groups:
        for series in group.series:
            index.update(dict.fromkeys(series.sessions.tolist()))
    for position, session in enumerate(sorted(index)):
        index[session] = position
    shown = [history.sessions[session] for session in sorted(index)]
    by_file = {session.path: position for position, session in enumerate(shown)}
    document = {
        "schema": SCHEMA_VERSION,
        "folder": history.folder,
        "library": history.library,
        "sessions": [
            {
                "file": session.path,
                "recorded": session.recorded,
                "commit": session.commit,
                "dirty": session.dirty,
                "machine": session.machine,
                "in_history": session.known,
            }
            for session in shown
        ],
        "tests": [
            _group(group, events, index, by_file)
            for group, events in zip(history.groups, history.events, strict=True)
        ],
        "unreadable": {p: why.replace("\n", "; ") for p, why in history.unreadable.items()},
        "gap": history.gap,
    }
    return json.dumps(document, allow_nan=False)


def _group(
    group: Group, events: list[Event], index: Mapping[int, int], by_file: Mapping[str, int]
) -> dict[str, Any]:
    subject = group.subject
    return {
        "machine": subject.machine,
        "nodeid": subject.nodeid,
        "model": group.model,
        "model_sha256": subject.model if subject.model != group.model else None,
        "workload": subject.workload,
        "summary": group.summary,
        "invalid": group.invalid,
        "marks": [
            {
                "kind": mark.kind,
                "session": index[mark.session],
                "reason": mark.reason,
                "decided": mark.when or None,
            }
            for mark in group.marks
        ],
        "metrics": {series.name: _series(series, index) for series in group.series},
        "changes": [
            {
                "before": by_file[event.before.path],
                "after": by_file[event.after.path],
                "commits": event.cause.commits,
                "subject": event.cause.subject or None,
                "searchable": event.cause.in_line,
                "why_not": event.cause.why_unknown or None,
                "metrics": {series.name: _effect_json(change) for series, change in event.effects},
            }
            for event in events
        ],
    }


def _series(series: Series, index: Mapping[int, int]) -> dict[str, Any]:
    return {
        "unit": series.unit,
        "direction": series.metric.direction.value if series.metric is not None else None,
        "sessions": [index[session] for session in series.sessions.tolist()],
        "values": [float(f"{value:.9g}") for value in series.values.tolist()],
        "change_points": [
            {
                "index": change.index,
                "last_before": change.last_before,
                "first_after": change.first_after,
                **_effect_json(change),
            }
            for change in series.changes
        ],
    }


def _effect_json(change: ChangePoint) -> dict[str, float]:
    """Return a change's slowdown and its interval, as fractions."""
    return {
        "slowdown": _rounded(change.effect),
        "low": _rounded(change.low),
        "high": _rounded(change.high),
    }


def _rounded(share: float) -> float:
    return float(f"{share:.6g}")


def csv_text(text: str) -> str:
    """Return a name as a cell that has no control characters and is not read as a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def write_csv(history: History, stream: IO[str]) -> None:
    """Write a row per session and metric; rows at which a new level starts are marked."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for group in history.groups:
        for series in group.series:
            writer.writerows(_rows(history, group, series))


def _rows(history: History, group: Group, series: Series) -> Iterator[tuple[object, ...]]:
    subject = group.subject
    changes = {change.index: change for change in series.changes}
    names = (
        subject.machine,
        subject.nodeid,
        group.model,
        subject.workload,
        series.name,
        series.unit,
    )
    values = zip(series.sessions.tolist(), series.values.tolist(), strict=True)
    for number, (index, value) in enumerate(values):
        session = history.sessions[index]
        change = changes.get(number)
        effect = tuple(_effect_json(change).values()) if change is not None else ("", "", "")
        yield (
            *map(csv_text, names),
            session.recorded,
            session.commit or "",
            int(session.dirty),
            csv_text(session.path),
            f"{value:.9g}",
            int(change is not None),
            *effect,
        )
