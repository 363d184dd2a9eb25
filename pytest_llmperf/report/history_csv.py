"""The history as CSV: a row per session and metric."""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING

from pytest_llmperf.report.history_json import effect_json
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.history.build import History
    from pytest_llmperf.history.series import Group, Series

#: What a spreadsheet takes for the beginning of a formula, full-width forms included.
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


def csv_text(text: str) -> str:
    """Return a name as a cell: no control characters, and nothing that a spreadsheet computes."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def write_csv(history: History, stream: IO[str]) -> None:
    """Write a row per session and metric; the rows at which a new level starts say so."""
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
        effect = tuple(effect_json(change).values()) if change is not None else ("", "", "")
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
