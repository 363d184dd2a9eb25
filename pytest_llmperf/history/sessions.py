"""All sessions that were ever recorded in a baselines folder, in the order of the commits."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from pytest_llmperf.history.levels import SessionLevels, TestLevels, different_tests
from pytest_llmperf.history.record_files import find_record_files
from pytest_llmperf.history.record_reader import RecordReader, with_remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_llmperf.history.index import LevelIndex
    from pytest_llmperf.history.record_files import RecordFiles
    from pytest_llmperf.repository.git import Repository


class PlacedSession(NamedTuple):
    """One session, placed among the commits.

    Attributes:
        path: of its record, from the repository's top.
        levels: what it measured.
        place: its position among the commits (``commits.place``).
        known: its commit is in HEAD's history.
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
        repository: the repository.
        folder: POSIX path of the baselines from the repository's top.
        sessions: oldest first.
        files: where the records and decisions lie.
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

    ``index`` caches those read before; ``progress`` is called with the number of others read
    so far, and their total.

    Raises:
        GitError: git failed.
    """
    commits = read_commits(repository)
    files = find_record_files(repository, folder, commits.hashes, machine)
    reader = RecordReader(repository, index, progress)
    levels = {**reader.committed(files.blobs), **reader.uncommitted(files.uncommitted)}
    unreadable = reader.unreadable
    positions = commits.positions(one.commit for one in levels.values() if one.commit is not None)
    latest = commits.latest_until()
    sessions: dict[str, PlacedSession] = {}
    for path, one in levels.items():
        key = path.split("/")[-2]
        if key != one.machine:
            unreadable[path] = (
                f"a record of machine {one.machine} in the folder of {key}\n"
                f"move it into the folder {one.machine}"
            )
            continue
        where = place(one.commit, seconds(one.recorded), positions, latest)
        # A record that was renamed is one session, and has HEAD's name, which comes first.
        blob = files.blobs.get(path, path)
        sessions.setdefault(blob, PlacedSession(path, one, where, one.commit in positions))
    ordered = sorted(sessions.values(), key=lambda one: (one.place, one.recorded, one.path))
    left_out = _with_remedies(unreadable, repository)
    return RecordedSessions(repository, folder, ordered, files, left_out)


def _with_remedies(unreadable: dict[str, str], repository: Repository) -> dict[str, str]:
    if not unreadable:
        return {}
    from pytest_llmperf.baselines.files import RECORD  # pydantic: not before it is needed

    return {
        path: with_remedy(why, path, repository.top, RECORD.again)
        for path, why in sorted(unreadable.items())
    }


@dataclass
class Commits:
    """HEAD's history, oldest first.

    Attributes:
        hashes: an order in which no commit comes before one of its ancestors.
        times: committer's times, seconds since 1970, in the same order.
    """

    hashes: list[str] = field(default_factory=list)
    times: array[int] = field(default_factory=lambda: array("q"))

    def positions(self, wanted: Iterable[str]) -> dict[str, int]:
        """Return the positions of those wanted commits that are in the history."""
        asked = set(wanted)
        return {commit: i for i, commit in enumerate(self.hashes) if commit in asked}

    def latest_until(self) -> array[int]:
        """Return the running maximum of commit times, as clocks may run backwards."""
        latest = array("q", self.times)
        for i in range(1, len(latest)):
            latest[i] = max(latest[i], latest[i - 1])
        return latest


def read_commits(repository: Repository) -> Commits:
    """Read the history of HEAD; empty before the first commit.

    Raises:
        GitError: git failed.
    """
    found = Commits()
    if repository.head() is None:
        return found
    output = repository.run("rev-list", "--topo-order", "--reverse", "--timestamp", "HEAD", "--")
    for line in output.splitlines():
        time, commit = line.split(" ")
        found.hashes.append(commit)
        found.times.append(int(time))
    return found


def place(
    commit: str | None, recorded: int, positions: dict[str, int], latest: array[int]
) -> float:
    """Return a session's position among the commits.

    At its commit, if that is in the history; else (measured on another branch, squashed
    away, outside a repository) after the commits that existed when it was recorded.
    """
    if commit in positions:
        return float(positions[commit])
    return bisect_right(latest, recorded) - 0.5


def seconds(recorded: str) -> int:
    """Return a record's time in seconds since 1970."""
    moment = datetime.fromisoformat(recorded.removesuffix("Z"))
    return int(moment.replace(tzinfo=timezone.utc).timestamp())
