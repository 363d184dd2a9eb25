"""Builds the history to show: the chosen series, their changes, and a user's decisions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmperf.baselines.json_text import explain_error, parse
from pytest_llmperf.history.change_points import change_points, library
from pytest_llmperf.history.events import Attribution
from pytest_llmperf.history.record_reader import committed_contents, with_remedy, work_tree_content
from pytest_llmperf.history.series import DecisionMark, Group, group_sessions, wanted_metrics
from pytest_llmperf.history.sessions import seconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from pytest_llmperf.baselines.decisions import Decision
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
        folder: the folder of baselines, from the repository's top.
        sessions: oldest first; series refer to them by index.
        groups: ordered by machine and test; for each test, in the order its workloads appeared.
        events: events of each group.
        library: the library that found candidates, None if there was no search.
        unreadable: path -> why a record or decision is left out, and the fix on a second line.
        all_invalid: number of recorded results if all of them are invalid, else 0.
        gap: number of folder states between which a record may have come and gone unseen, or 0.
    """

    folder: str
    sessions: list[PlacedSession]
    groups: list[Group]
    events: list[list[Event]] = field(default_factory=list)
    library: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    gap: int = 0
    all_invalid: int = 0


def build_history(
    recorded: RecordedSessions,
    *,
    tests: Collection[str] | None = None,
    metrics: Collection[str] | None = None,
    since: Revision | str | None = None,
    limit: int | None = None,
) -> History:
    """Sort recorded sessions into series and look for changes.

    ``since`` is a date or a commit: earlier sessions are neither shown nor searched.
    ``limit`` keeps the newest sessions of each series.

    Raises:
        GitError: git failed.
    """
    groups = group_sessions(recorded.sessions, tests)
    is_valid = any(len(series.sessions) for group in groups for series in group.series)
    all_invalid = 0 if is_valid else sum(group.invalid for group in groups)
    kept = _recent_enough(recorded, since)
    shown = wanted_metrics(metrics, recorded.metrics())
    for group in groups:
        group.series = [
            cut
            for series in group.series
            if series.name in shown and len((cut := series.cut(kept, limit)).sessions)
        ]
    groups = [group for group in groups if group.series]
    unreadable = recorded.unreadable | add_decisions(groups, recorded)
    finder = library()
    if finder is not None:
        for group in groups:
            for series in group.series:
                if series.metric is not None:
                    series.changes = change_points(series.values, series.metric)
    attribution = Attribution(recorded.repository, recorded.sessions)
    events = [attribution.events(group) for group in groups]
    gap = recorded.files.gap
    sessions = recorded.sessions
    return History(recorded.folder, sessions, groups, events, finder, unreadable, gap, all_invalid)


def _recent_enough(recorded: RecordedSessions, since: Revision | str | None) -> NDArray[np.bool_]:
    """Return for each session whether it is not earlier than ``since``."""
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


def add_decisions(groups: list[Group], recorded: RecordedSessions) -> dict[str, str]:
    """Add the decisions of HEAD and the work tree to the groups they are about.

    Returns path -> reason, with the fix on a second line, for each unreadable decision.
    """
    unreadable: dict[str, str] = {}
    made: list[tuple[str, Decision]] = []
    for path, content in _contents(recorded):
        try:
            made.append((PurePosixPath(path).parent.parent.name, _decision(content)))
        except ValueError as error:
            from pytest_llmperf.baselines.files import DECISION

            why = explain_error(error)
            unreadable[path] = with_remedy(why, path, recorded.repository.top, DECISION.again)
    named = {
        (session.machine, session.path.rpartition("/")[2]): index
        for index, session in enumerate(recorded.sessions if made else ())
    }
    for group in groups:
        marks = list(group.marks)
        for machine, decision in made:
            session = named.get((machine, decision.session))
            if session is not None and decision.covers(group.subject.nodeid):
                day = decision.decided[:10]
                marks.append(DecisionMark(session, decision.kind, decision.reason, day))
        group.marks = tuple(sorted(mark for mark in marks if _shown(group, mark.session)))
    return unreadable


def _shown(group: Group, session: int) -> bool:
    return any(session in series.sessions for series in group.series)


def _contents(recorded: RecordedSessions) -> Iterator[tuple[str, bytes | str]]:
    """Yield each decision's path and content, or why it cannot be read."""
    files, repository = recorded.files, recorded.repository
    blobs = list(files.decisions.values())
    yield from zip(files.decisions, committed_contents(repository, blobs), strict=True)
    for path in files.uncommitted_decisions:
        content = work_tree_content(f"{repository.top}/{path}")
        if content is not None:
            yield path, content


def _decision(content: bytes | str) -> Decision:
    """Parse a decision's content; a ``str`` says why its file could not be read.

    Raises:
        ValueError: it is not a decision that this version reads.
    """
    if isinstance(content, str):
        raise ValueError(content)
    # Imported here because it imports pydantic, which is slow.
    from pytest_llmperf.baselines.decisions import SCHEMA_VERSION, from_json

    try:
        data = parse(content)
        schema = data.get("schema") if isinstance(data, dict) else None
        if not isinstance(schema, int) or not 1 <= schema <= SCHEMA_VERSION:
            raise ValueError(f"schema: got {schema!r}")
        return from_json(data)
    except ValueError as error:
        raise ValueError(f"not a decision about a session: {explain_error(error)}") from None
