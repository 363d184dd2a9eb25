"""The commits of HEAD's history: their order and times, and the position of a session."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmperf.repository.git import Repository


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
