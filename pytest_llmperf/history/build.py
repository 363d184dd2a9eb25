"""Builds the history to show: the chosen series, their changes, and the commits behind them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmperf.history.change_points import change_points, library
from pytest_llmperf.history.commits import seconds
from pytest_llmperf.history.events import Attribution
from pytest_llmperf.history.marks import add_marks
from pytest_llmperf.history.series import group_sessions, wanted_metrics

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from pytest_llmperf.history.events import Event
    from pytest_llmperf.history.series import Group
    from pytest_llmperf.history.sessions import PlacedSession, RecordedSessions
    from pytest_llmperf.repository.revisions import Revision

#: A date, or a time as records write it.
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\dZ)?")


@dataclass
class History:
    """The chosen part of a baselines folder's history.

    Attributes:
        folder: the baselines', from the repository's top.
        sessions: oldest first; series refer to them by index.
        groups: by machine and test; of a test, in the order in which its workloads appeared.
        events: events of each group.
        library: the library that found candidates, None if there was no search.
        unreadable: path -> why a record or decision is left out, and the fix on a second line.
        gap: number of folder states among which a record may have come and gone unseen; 0: none.
    """

    folder: str
    sessions: list[PlacedSession]
    groups: list[Group]
    events: list[list[Event]] = field(default_factory=list)
    library: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    gap: int = 0


def build_history(
    recorded: RecordedSessions,
    *,
    tests: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
    since: Revision | str | None = None,
    limit: int | None = None,
) -> History:
    """Sort recorded sessions into series and look for changes.

    ``since`` is a date or a commit: earlier sessions are left out, also from the search.
    ``limit`` keeps the newest sessions of each series.

    Raises:
        GitError: git failed.
    """
    groups = group_sessions(recorded.sessions, tests)
    kept = _kept(recorded, since)
    shown = wanted_metrics(metrics, recorded.metrics())
    for group in groups:
        group.series = [
            cut
            for series in group.series
            if series.name in shown and len((cut := series.cut(kept, limit)).sessions)
        ]
    groups = [group for group in groups if group.series]
    unreadable = recorded.unreadable | add_marks(groups, recorded)
    found = library()
    if found is not None:
        for group in groups:
            for series in group.series:
                if series.metric is not None:
                    series.changes = change_points(series.values, series.metric)
    attribution = Attribution(recorded.repository, recorded.sessions)
    events = [attribution.events(group) for group in groups]
    gap = recorded.files.gap
    return History(recorded.folder, recorded.sessions, groups, events, found, unreadable, gap)


def _kept(recorded: RecordedSessions, since: Revision | str | None) -> NDArray[np.bool_]:
    """Return for each session whether it is recent enough."""
    if since is None:
        return np.ones(len(recorded.sessions), np.bool_)
    if isinstance(since, str):
        return np.array([session.recorded >= since for session in recorded.sessions], np.bool_)
    repository = recorded.repository
    output = repository.run("rev-list", f"{since.commit}..HEAD", "--")
    later = {since.commit, *output.split()}
    made = int(repository.run("log", "-1", "--format=%ct", since.commit, "--"))
    return np.array(
        [
            session.commit in later if session.known else seconds(session.recorded) >= made
            for session in recorded.sessions
        ],
        np.bool_,
    )
