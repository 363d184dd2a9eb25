"""Sorts sessions into series: one test's metric on one machine, model and workload over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pytest_llmperf.metrics import METRICS, Metric, UnknownMetricError, get_metric

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_llmperf.history.change_points import ChangePoint
    from pytest_llmperf.history.sessions import Sessions


class Session(NamedTuple):
    """One session, placed among the commits.

    Attributes:
        path: of its record, from the repository's top.
        recorded: UTC, as ``2026-11-22T23:59:26Z``.
        commit: what it measured; None outside a repository.
        dirty: tracked files had changes that are in no commit.
        machine: its key.
        place: where it stands among the commits (``commits.place``).
        known: its commit is in HEAD's history.
    """

    path: str
    recorded: str
    commit: str | None
    dirty: bool
    machine: str
    place: float
    known: bool

    @property
    def day(self) -> str:
        """The date it was recorded."""
        return self.recorded[:10]


class Subject(NamedTuple):
    """What a series is about; sessions that differ in any of it are not compared.

    Attributes:
        machine: its key.
        nodeid: the test.
        model: the SHA-256 of the model's file; the model's name where it has no file.
        workload: its hash.
    """

    machine: str
    nodeid: str
    model: str
    workload: str


class Mark(NamedTuple):
    """What somebody decided about a session's level.

    Attributes:
        session: index into the history's sessions.
        kind: ``accept`` or ``anchor``.
        reason: why.
        when: the date of the decision.
    """

    session: int
    kind: str
    reason: str
    when: str


@dataclass(eq=False)
class Series:
    """One metric of a subject.

    Attributes:
        name: as stored.
        metric: None where this version knows no metric of that name.
        unit: as stored.
        sessions: indices into the history's sessions, in their order.
        values: the session's level, in ``unit``.
        changes: where the level changed, in order.
    """

    name: str
    metric: Metric | None
    unit: str
    sessions: NDArray[np.intp]
    values: NDArray[np.float64]
    changes: tuple[ChangePoint, ...] = ()

    def cut(self, kept: NDArray[np.bool_], limit: int | None) -> Series:
        """Return the series of the sessions that are kept, the newest ``limit`` of them."""
        inside = np.flatnonzero(kept[self.sessions])
        if limit is not None:
            inside = inside[-limit:]
        return Series(self.name, self.metric, self.unit, self.sessions[inside], self.values[inside])


@dataclass(eq=False)
class Group:
    """All series of a subject.

    Attributes:
        subject: what they are about.
        model: the model's name.
        summary: the workload in words.
        series: in the registry's order, unknown metrics last.
        marks: decisions about its sessions, in the order of the sessions.
        invalid: sessions left out because the machine was not fit to judge then.
    """

    subject: Subject
    model: str
    summary: str
    series: list[Series] = field(default_factory=list)
    marks: tuple[Mark, ...] = ()
    invalid: int = 0


def seconds(recorded: str) -> int:
    """Return a record's time in seconds since 1970; 0 for a time that is none."""
    try:
        moment = datetime.fromisoformat(recorded.removesuffix("Z"))
    except ValueError:  # 2026-02-31
        return 0
    return int(moment.replace(tzinfo=timezone.utc).timestamp())


def wanted_metrics(asked: Collection[str] | None, there: Iterable[str]) -> list[str]:
    """Return the metrics to show, in the registry's order.

    By default one of each quantity (not the time per token beside the tokens per second).
    """
    names = set(there)
    ordered = [name for name in METRICS if name in names]
    ordered += sorted(names - set(ordered))
    if asked is not None:
        return [name for name in ordered if name in asked]
    shown: dict[str, str] = {}
    for name in ordered:
        metric = known_metric(name)
        shown.setdefault(metric.quantity if metric is not None else f"={name}", name)
    return list(shown.values())


def known_metric(name: str) -> Metric | None:
    """Return the metric of that name; None for one of a newer plugin."""
    try:
        return get_metric(name)
    except UnknownMetricError:
        return None


def group_sessions(
    sessions: Sessions, order: Sequence[int], tests: Collection[str] | None
) -> list[Group]:
    """Sort the values of sessions into series, by machine, test, and age of the subject.

    ``order`` gives the sessions' rows from the oldest to the newest; an index into it is what
    a series calls a session. ``tests`` are the node ids wanted, None for all.
    """
    ranks = np.empty(len(order), np.intp)
    ranks[np.asarray(order, np.intp)] = np.arange(len(order))
    parts: dict[Subject, _Parts] = {}
    for (layout, machine, model, name), alike in _alike(sessions).items():
        rows = alike[np.argsort(ranks[alike])]
        matrix = _matrix(sessions, rows)
        column = 0
        for part in sessions.layouts[layout]:
            first, column = column, column + len(part.metrics)
            if tests is not None and part.nodeid not in tests:
                continue
            subject = Subject(machine, part.nodeid, model, part.workload)
            found = parts.setdefault(subject, _Parts())
            at = ranks[rows]
            found.words.append((int(at.max()), name, part.summary))
            found.first = min(found.first, int(at.min()))
            if part.invalid:
                found.invalid += len(rows)
                continue
            if part.accepted is not None:
                found.accepted += [(int(rank), part.accepted) for rank in at]
            for offset, (metric, unit) in enumerate(part.metrics):
                values = matrix[:, first + offset]
                found.columns.setdefault((metric, unit), []).append((at, values))
    ordered = sorted(parts, key=lambda s: (s.machine, s.nodeid, parts[s].first, s))
    return [_group(subject, parts[subject]) for subject in ordered]


@dataclass
class _Parts:
    """What is collected of a subject: pieces of columns, from layouts and machines."""

    words: list[tuple[int, str, str]] = field(default_factory=list)
    first: int = 1 << 60
    invalid: int = 0
    accepted: list[tuple[int, str]] = field(default_factory=list)
    columns: dict[tuple[str, str], list[tuple[NDArray[np.intp], NDArray[np.float64]]]] = field(
        default_factory=dict
    )


def _alike(sessions: Sessions) -> dict[tuple[int, str, str, str], NDArray[np.intp]]:
    """Return the rows of each layout, machine, model and name of the model."""
    found: dict[tuple[int, str, str, str], list[int]] = {}
    for index, row in enumerate(sessions.rows):
        key = (row.layout, row.machine, row.sha256 or row.model, row.model)
        found.setdefault(key, []).append(index)
    return {key: np.asarray(rows, np.intp) for key, rows in found.items()}


def _matrix(sessions: Sessions, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the values of rows with one layout, rows x columns."""
    joined = b"".join(sessions.values[row].tobytes() for row in rows)
    return np.frombuffer(joined, np.float64).reshape(len(rows), -1)


def _group(subject: Subject, parts: _Parts) -> Group:
    series = []
    for name, unit in parts.columns:
        pieces = parts.columns[name, unit]
        at = np.concatenate([ranks for ranks, _ in pieces])
        values = np.concatenate([column for _, column in pieces])
        if len(pieces) > 1:
            ordered = np.argsort(at)
            at, values = at[ordered], values[ordered]
        series.append(Series(name, known_metric(name), unit, at, values))
    marks = tuple(Mark(rank, "accept", why, "") for rank, why in sorted(parts.accepted))
    _, model, summary = max(parts.words)
    rank = {name: index for index, name in enumerate(METRICS)}
    series.sort(key=lambda one: (rank.get(one.name, len(rank)), one.name))
    return Group(subject, model, summary, series, marks, parts.invalid)
