"""Events: change points of a test's metrics, attributed to commits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.history.change_points import ChangePoint
    from pytest_llmperf.history.series import Group, Series
    from pytest_llmperf.history.sessions import PlacedSession
    from pytest_llmperf.repository.git import Repository


@dataclass(frozen=True)
class CommitsBetween:
    """The commits between two sessions.

    Attributes:
        commits: number of commits that the later session has and the earlier one lacks;
            None if unknown.
        subject: the commit's subject line, if there is only one.
        in_line: whether the earlier session's commit is an ancestor of the later one's, so
            that the commits between them can be searched.
        why_unknown: why the commits are unknown, else empty.
    """

    commits: int | None = None
    subject: str = ""
    in_line: bool = False
    why_unknown: str = ""


@dataclass(frozen=True)
class Event:
    """Change points of one test that may have happened at the same commit.

    Attributes:
        before: the last session that certainly came before, by the metric that locates the
            change best.
        after: the first session that certainly came after.
        effects: the metrics that changed, in the order of the group.
    """

    before: PlacedSession
    after: PlacedSession
    effects: tuple[tuple[Series, ChangePoint], ...]
    cause: CommitsBetween


class Attribution:
    """Attributes change points to commits; asks git about each pair of commits once."""

    def __init__(self, repository: Repository, sessions: Sequence[PlacedSession]) -> None:
        self._repository = repository
        self._sessions = sessions
        self._causes: dict[tuple[str, str], CommitsBetween] = {}

    def events(self, group: Group) -> list[Event]:
        """Return a test's events, in order."""
        events = []
        for effects in _group_overlapping(group):
            # Each range contains its change with 95% confidence; the narrowest locates it best.
            first, last = min((_range(*effect) for effect in effects), key=lambda r: r[1] - r[0])
            before, after = self._sessions[first], self._sessions[last]
            events.append(Event(before, after, tuple(effects), self._cause(before, after)))
        return events

    def _cause(self, before: PlacedSession, after: PlacedSession) -> CommitsBetween:
        if before.commit is None or after.commit is None:
            return CommitsBetween(why_unknown="a session was recorded outside a repository")
        if before.commit == after.commit:
            same = "both sessions measured the same commit"
            if before.dirty or after.dirty:
                return CommitsBetween(why_unknown=f"{same}, with uncommitted changes")
            return CommitsBetween(0, why_unknown=f"{same}: what changed is not in the repository")
        pair = (before.commit, after.commit)
        if pair not in self._causes:
            self._causes[pair] = self._between(*pair)
        return self._causes[pair]

    def _between(self, before: str, after: str) -> CommitsBetween:
        repository = self._repository
        for commit in (before, after):
            if repository.commit(commit) is None:
                why = "the clone is shallow" if repository.is_shallow() else "squashed or rebased"
                return CommitsBetween(
                    why_unknown=f"commit {commit[:12]} is not in this repository ({why})"
                )
        commits = repository.run("rev-list", f"{before}..{after}", "--").split()
        subject = repository.subject(commits[0]) if len(commits) == 1 else ""
        return CommitsBetween(len(commits), subject, repository.is_ancestor(before, after))


def _range(series: Series, change: ChangePoint) -> tuple[int, int]:
    """Return the indices of the sessions between which a change lies."""
    return int(series.sessions[change.last_before]), int(series.sessions[change.first_after])


def _group_overlapping(group: Group) -> list[list[tuple[Series, ChangePoint]]]:
    """Group change points with overlapping ranges, ordered by time."""
    effects = [(series, change) for series in group.series for change in series.changes]
    effects.sort(key=lambda effect: _range(*effect))
    events: list[list[tuple[Series, ChangePoint]]] = []
    ends: list[int] = []
    for effect in effects:
        first, last = _range(*effect)
        known = {id(series) for series, _ in events[-1]} if events else set()
        # Two changes of one metric are two events.
        if events and first < ends[-1] and id(effect[0]) not in known:
            events[-1].append(effect)
            ends[-1] = min(ends[-1], last)
        else:
            events.append([effect])
            ends.append(last)
    for event in events:
        event.sort(key=lambda effect: group.series.index(effect[0]))
    return events
