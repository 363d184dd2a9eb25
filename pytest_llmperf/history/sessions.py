"""All sessions that were ever recorded in a baselines folder, in the order of the commits."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.history.levels import SessionLevels, TestLevels, different_tests
from pytest_llmperf.history.record_files import find_record_files
from pytest_llmperf.history.record_reader import RecordReader, with_remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmperf.history.index import LevelIndex
    from pytest_llmperf.history.record_files import RecordFiles
    from pytest_llmperf.repository.git import Repository


def open_index(note: Callable[[str], object] = lambda _: None) -> LevelIndex | None:
    """Open the index of records read before; None where Python was built without SQLite."""
    try:
        from pytest_llmperf.history.index import LevelIndex
    except ImportError as error:
        note(f"records are read again each time ({error})")
        return None
    return LevelIndex(cache_dir(os.environ) / "history")


class PlacedSession(NamedTuple):
    """One session, its record's path from the repository's top, and its place among the commits.

    ``known`` says whether its commit is in HEAD's history.
    """

    path: str
    levels: SessionLevels
    place: float
    known: bool

    @property
    def recorded(self) -> str:
        """Its time, UTC, as ``2026-11-22T23:59:26Z``."""
        return self.levels.recorded

    @property
    def day(self) -> str:
        """The date it was recorded."""
        return self.levels.recorded[:10]

    @property
    def commit(self) -> str | None:
        """The commit it measured; None outside a repository."""
        return self.levels.commit

    @property
    def dirty(self) -> bool:
        """Whether tracked files had changes that are in no commit."""
        return self.levels.dirty

    @property
    def machine(self) -> str:
        """The machine's key."""
        return self.levels.machine


@dataclass
class RecordedSessions:
    """The sessions in a baselines folder and its history.

    Attributes:
        folder: POSIX path from the repository's top.
        sessions: in the order of the commits, oldest first.
        unreadable: path -> why that record is left out, and the fix on a second line.
    """

    repository: Repository
    folder: str
    sessions: list[PlacedSession]
    files: RecordFiles
    unreadable: dict[str, str]

    def tests(self) -> set[str]:
        """Return the node ids of all tests that were ever recorded."""
        return {test.nodeid for test in self._recorded_tests()}

    def metrics(self) -> set[str]:
        """Return the names of all metrics that were ever recorded."""
        return {name for test in self._recorded_tests() for name, _ in test.metrics}

    def machines(self) -> list[str]:
        """Return the keys of all machines with a session, sorted."""
        return sorted({session.machine for session in self.sessions})

    def _recorded_tests(self) -> Iterator[TestLevels]:
        for tests in different_tests(session.levels for session in self.sessions):
            yield from tests


def read_sessions(
    repository: Repository,
    folder: str,
    machine: str | None = None,
    index: LevelIndex | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RecordedSessions:
    """Read the records of one machine, or of all, from HEAD's history and the work tree.

    ``index`` caches records read before; ``progress`` is called with the number of other records
    read so far, and their total.

    Raises:
        GitError: git failed.
    """
    commits = read_commits(repository)
    files = find_record_files(repository, folder, commits.hashes, machine)
    reader = RecordReader(repository, index, progress)
    levels = {**reader.committed(files.blobs), **reader.uncommitted(files.uncommitted)}
    unreadable = reader.unreadable
    measured = {session.commit for session in levels.values()}
    positions = {commit: i for i, commit in enumerate(commits.hashes) if commit in measured}
    # The latest time up to each commit, as clocks may run backwards.
    latest = list(accumulate(commits.times, max))
    sessions: dict[str, PlacedSession] = {}
    for path, session in levels.items():
        key = path.split("/")[-2]
        if key != session.machine:
            unreadable[path] = (
                f"a record of machine {session.machine} in the folder of {key}\n"
                f"move it into the folder {session.machine}"
            )
            continue
        where = _place(session, positions, latest)
        # A record that was renamed is one session, and has HEAD's name, which comes first.
        blob = files.blobs.get(path, path)
        sessions.setdefault(blob, PlacedSession(path, session, where, session.commit in positions))
    ordered = sorted(sessions.values(), key=lambda item: (item.place, item.recorded, item.path))
    if unreadable:
        from pytest_llmperf.baselines.files import RECORD  # imports pydantic, which is slow

        unreadable = {
            path: with_remedy(why, path, repository.top, RECORD.again)
            for path, why in sorted(unreadable.items())
        }
    return RecordedSessions(repository, folder, ordered, files, unreadable)


class Commits(NamedTuple):
    """HEAD's history, oldest first: hashes, and committers' times in seconds since 1970.

    No commit comes before any of its ancestors.
    """

    hashes: list[str]
    times: list[int]


def read_commits(repository: Repository) -> Commits:
    """Read the history of HEAD; empty before the first commit.

    Raises:
        GitError: git failed.
    """
    commits = Commits([], [])
    if repository.head() is None:
        return commits
    output = repository.run("rev-list", "--topo-order", "--reverse", "--timestamp", "HEAD", "--")
    for line in output.splitlines():
        time, commit = line.split(" ")
        commits.hashes.append(commit)
        commits.times.append(int(time))
    return commits


def _place(session: SessionLevels, positions: dict[str, int], latest: list[int]) -> float:
    """Return a session's position among the commits.

    It is that of its commit, if that is in the history; otherwise (measured on another branch,
    squashed, outside a repository) after the commits that existed when it was recorded.
    """
    if session.commit in positions:
        return float(positions[session.commit])
    return bisect_right(latest, seconds(session.recorded)) - 0.5


def seconds(recorded: str) -> int:
    """Return a record's time in seconds since 1970."""
    moment = datetime.fromisoformat(recorded.removesuffix("Z"))
    return int(moment.replace(tzinfo=timezone.utc).timestamp())
