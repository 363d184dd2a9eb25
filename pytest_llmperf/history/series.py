"""Sorts sessions into series: one test's metric on one machine, model and workload over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pytest_llmperf.metrics import METRICS, Metric, known_metric

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_llmperf.history.change_points import ChangePoint
    from pytest_llmperf.history.sessions import PlacedSession


class Subject(NamedTuple):
    """The identity of a series; sessions that differ in any part are not compared.

    ``model`` is the SHA-256 of the model's file; the model's name where it has no file.
    """

    machine: str
    nodeid: str
    model: str
    workload: str


class DecisionMark(NamedTuple):
    """A user's decision (``accept`` or ``anchor``) about the level of a session, by its index."""

    session: int
    kind: str
    reason: str
    when: str


@dataclass(eq=False)
class Series:
    """One metric of a subject: its level in each session (by index), and the changes of level.

    Name and unit are as stored; ``metric`` is None if this version knows none of that name.
    """

    name: str
    metric: Metric | None
    unit: str
    sessions: NDArray[np.intp]
    values: NDArray[np.float64]
    changes: tuple[ChangePoint, ...] = ()

    def cut(self, kept: NDArray[np.bool_], limit: int | None) -> Series:
        """Return the series cut to the kept sessions, and of those to the newest ``limit``."""
        inside = np.flatnonzero(kept[self.sessions])
        if limit is not None:
            inside = inside[-limit:]
        return Series(self.name, self.metric, self.unit, self.sessions[inside], self.values[inside])


@dataclass(eq=False)
class Group:
    """All series of a subject.

    Attributes:
        model: the model's name.
        summary: the workload in words.
        series: in the registry's order, unknown metrics last.
        marks: decisions about its sessions, in the order of the sessions.
        invalid: number of sessions left out because their levels may not be used for verdicts.
    """

    subject: Subject
    model: str
    summary: str
    series: list[Series] = field(default_factory=list)
    marks: tuple[DecisionMark, ...] = ()
    invalid: int = 0


def wanted_metrics(asked: Collection[str] | None, recorded: Iterable[str]) -> list[str]:
    """Return the metrics to show, in the registry's order.

    By default there is one per quantity (not both time per token and tokens per second).
    """
    names = set(recorded)
    ordered = [name for name in METRICS if name in names]
    ordered += sorted(names - set(ordered))
    if asked is not None:
        return [name for name in ordered if name in asked]
    shown: dict[str, str] = {}
    for name in ordered:
        metric = known_metric(name)
        shown.setdefault(metric.quantity if metric is not None else f"={name}", name)
    return list(shown.values())


def group_sessions(sessions: Sequence[PlacedSession], tests: Collection[str] | None) -> list[Group]:
    """Sort the levels of sessions into series, by machine, test, and age of the subject.

    ``tests`` are the wanted node ids, None for all.
    """
    collected: dict[Subject, _Collected] = {}
    for indices in _group_same_tests(sessions):
        latest = sessions[indices[-1]].levels
        # Sessions with the same tests and metrics are the rows of a table.
        table = np.array([sessions[i].levels.values for i in indices])
        column = 0
        for test in latest.tests:
            first, column = column, column + len(test.metrics)
            if tests is not None and test.nodeid not in tests:
                continue
            model = latest.sha256 or latest.model
            subject = Subject(latest.machine, test.nodeid, model, test.workload)
            data = collected.setdefault(subject, _Collected())
            data.words.append((int(indices[-1]), latest.model, test.summary))
            data.first = min(data.first, int(indices[0]))
            if test.invalid:
                data.invalid += len(indices)
                continue
            if test.accepted is not None:
                data.accepted += [(int(index), test.accepted) for index in indices]
            for offset, metric in enumerate(test.metrics):
                piece = (indices, table[:, first + offset])
                data.columns.setdefault(metric, []).append(piece)
    ordered = sorted(collected, key=lambda s: (s.machine, s.nodeid, collected[s].first, s))
    return [_group(subject, collected[subject]) for subject in ordered]


@dataclass
class _Collected:
    """Data collected for a subject, from sessions with different tests or metrics.

    Attributes:
        words: (latest session, model, summary) of each kind of session.
        accepted: (session, reason).
        columns: (metric, unit) -> pieces of a series: sessions and values.
    """

    words: list[tuple[int, str, str]] = field(default_factory=list)
    first: int = 1 << 60
    invalid: int = 0
    accepted: list[tuple[int, str]] = field(default_factory=list)
    columns: dict[tuple[str, str], list[tuple[NDArray[np.intp], NDArray[np.float64]]]] = field(
        default_factory=dict
    )


def _group_same_tests(sessions: Sequence[PlacedSession]) -> list[NDArray[np.intp]]:
    """Return the indices of sessions with the same tests, machine, model and model's name."""
    groups: dict[tuple[int, str, str | None, str], list[int]] = {}
    for index, session in enumerate(sessions):
        own = session.levels
        groups.setdefault((id(own.tests), own.machine, own.sha256, own.model), []).append(index)
    return [np.array(indices, np.intp) for indices in groups.values()]


def _group(subject: Subject, collected: _Collected) -> Group:
    series = []
    for (name, unit), pieces in collected.columns.items():
        at = np.concatenate([indices for indices, _ in pieces])
        values = np.concatenate([column for _, column in pieces])
        ordered = np.argsort(at)
        series.append(Series(name, known_metric(name), unit, at[ordered], values[ordered]))
    marks = tuple(
        DecisionMark(index, "accept", why, "") for index, why in sorted(collected.accepted)
    )
    _, model, summary = max(collected.words)
    rank = {name: index for index, name in enumerate(METRICS)}
    series.sort(key=lambda item: (rank.get(item.name, len(rank)), item.name))
    return Group(subject, model, summary, series, marks, collected.invalid)
