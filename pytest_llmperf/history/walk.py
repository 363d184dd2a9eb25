"""The history that is shown: the series asked for, their changes, and what caused them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmperf.history.change_points import change_points, library
from pytest_llmperf.history.events import Attribution
from pytest_llmperf.history.helper import Helper
from pytest_llmperf.history.marks import mark
from pytest_llmperf.history.series import group_sessions, seconds, wanted_metrics

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from pytest_llmperf.history.archive import Archive
    from pytest_llmperf.history.events import Event
    from pytest_llmperf.history.series import Group, Series, Session
    from pytest_llmperf.repository.revisions import Revision

#: A day, or a moment as records have it.
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\dZ)?")


@dataclass
class History:
    """What is shown.

    Attributes:
        folder: the baselines', from the repository's top.
        sessions: oldest first; series refer to them by index.
        groups: by machine, test, and age of the workload.
        events: of each group.
        library: what found the candidates, None where nothing was looked for.
        unreadable: path -> why a record or decision is left out, and on a second line what
            mends it.
        gap: within how many states of the folder a record may have come and gone unseen; 0: none.
    """

    folder: str
    sessions: list[Session]
    groups: list[Group]
    events: list[list[Event]] = field(default_factory=list)
    library: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    gap: int = 0


def walk(
    archive: Archive,
    *,
    tests: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
    since: Revision | str | None = None,
    limit: int | None = None,
    helper: Helper | None = None,
) -> History:
    """Sort an archive into series and look for changes.

    ``since`` is a date or a commit: earlier sessions are left out, also of the search.
    ``limit`` keeps the newest sessions of each series. With ``helper``, a second process may
    search a part of them.

    Raises:
        GitError: git cannot be asked.
    """
    groups = group_sessions(archive.records, archive.order, tests)
    kept = _kept(archive, since)
    shown = wanted_metrics(metrics, archive.metrics())
    for group in groups:
        group.series = [
            cut
            for series in group.series
            if series.name in shown and len((cut := series.cut(kept, limit)).sessions)
        ]
    groups = [group for group in groups if group.series]
    unreadable = archive.unreadable | mark(groups, archive)
    found = library()
    if found is not None:
        _search(groups, helper or Helper(cpus=1))
    attribution = Attribution(archive.repository, archive.sessions)
    events = [attribution.events(group) for group in groups]
    return History(
        archive.folder, archive.sessions, groups, events, found, unreadable, archive.files.gap
    )


def _search(groups: Sequence[Group], helper: Helper) -> None:
    """Look for change points, half of the series in the helper where they are long."""
    series = [one for group in groups for one in group.series if one.metric is not None]
    helper.start(sum(len(one.values) for one in series) // 100)
    theirs = series[len(series) // 2 :] if helper.running else []
    helper.ask_to_search(theirs)
    for one in series[: len(series) - len(theirs)]:
        _look(one)
    answers = helper.found() if theirs else []
    for number, one in enumerate(theirs):
        if answers is not None:
            one.changes = answers[number]
        else:
            _look(one)


def _look(series: Series) -> None:
    if series.metric is not None:
        series.changes = change_points(series.values, series.metric)


def _kept(archive: Archive, since: Revision | str | None) -> NDArray[np.bool_]:
    """Return per session whether it is not too early."""
    if since is None:
        return np.ones(len(archive.sessions), np.bool_)
    if isinstance(since, str):
        return np.array([session.recorded >= since for session in archive.sessions], np.bool_)
    repository = archive.repository
    said = repository.run("rev-list", f"{since.commit}..HEAD", "--")
    later = {since.commit, *said.split()}
    made = int(repository.run("log", "-1", "--format=%ct", since.commit, "--"))
    return np.array(
        [
            session.commit in later if session.known else seconds(session.recorded) >= made
            for session in archive.sessions
        ],
        np.bool_,
    )
