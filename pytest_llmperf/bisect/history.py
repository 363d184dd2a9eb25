"""Commits between a good and a bad end: whether they can be searched, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.revisions import Revision
from pytest_llmperf.repository.state import content_digest


class RangeError(Exception):
    """Raised if there is nothing to search between two commits; ``str()`` says how to fix it."""


@dataclass(frozen=True)
class Commit:
    """A commit with the details to show: full hashes, author's name, date (ISO 8601)."""

    hash: str
    subject: str
    author: str
    date: str
    parents: tuple[str, ...]

    @property
    def short(self) -> str:
        """The first 12 digits of the hash."""
        return self.hash[:12]


def look_up(repository: Repository, commit: str) -> Commit:
    """Read a commit and its details from git."""
    said = repository.run(
        *("log", "-1", "--no-color", "--encoding=UTF-8", "--format=%P%x00%an%x00%aI%x00%s"),
        *(commit, "--"),
    )
    parents, author, date, subject = said.removesuffix("\n").split("\0")
    return Commit(commit, subject, author, date, tuple(parents.split()))


def check_range(repository: Repository, good: Revision, bad: Revision) -> None:
    """Check that ``good`` comes before ``bad``.

    Raises:
        RangeError: it does not; the message says how to fix it.
    """
    if good.commit == bad.commit:
        raise RangeError(
            f"{good.name} and {bad.name} are the same commit, {good.short}: "
            "give one that is fast and a later one that is slow"
        )
    if repository.is_ancestor(good.commit, bad.commit):
        return
    if repository.is_ancestor(bad.commit, good.commit):
        raise RangeError(
            f"{bad} comes before {good}, but the good commit must be the earlier one; to find what "
            f"made {good.name} slower, run: llmperf bisect {bad.name} {good.name}"
        )
    base = repository.merge_base(good.commit, bad.commit)
    if base is None:
        raise RangeError(f"{good} and {bad} have no commit in common, so nothing lies between them")
    raise RangeError(
        f"{good} is not an ancestor of {bad}: they diverged at {base[:12]} "
        f"{repository.subject(base)}; if that commit is fast, run: llmperf bisect {base[:12]} "
        f"{bad.name}"
    )


class CommitFiles:
    """Compares the files of commits, except recorded baselines.

    ``baselines`` is their folder, relative to the top; None if it is outside the repository.
    """

    def __init__(self, repository: Repository, baselines: str | None = None) -> None:
        self._repository = repository
        self._without = [baselines] if baselines else []
        self._known: dict[str, str] = {}

    def same_files(self, commit: str, other: str) -> bool:
        """Whether two commits have the same files apart from baselines."""
        return commit == other or self._of(commit) == self._of(other)

    def _of(self, commit: str) -> str:
        if commit not in self._known:
            self._known[commit] = content_digest(self._repository, commit, self._without)
        return self._known[commit]


def check_contents(contents: CommitFiles, good: Revision, bad: Revision) -> None:
    """Check that ``bad`` differs from ``good`` in more than recorded baselines.

    Raises:
        RangeError: it does not.
    """
    if contents.same_files(good.commit, bad.commit):
        raise RangeError(
            f"{good} and {bad} have the same code (at most recorded baselines differ), so there "
            "is nothing to search for"
        )


def descendants(repository: Repository, good: str, bad: str) -> frozenset[str]:
    """Return the commits after ``good``, up to ``bad``, that descend from ``good``."""
    return frozenset(repository.run("rev-list", "--ancestry-path", f"{good}..{bad}", "--").split())


def count_commits(
    repository: Repository, good: str, bad: str, first_parent: bool = False
) -> tuple[int, bool]:
    """Return how many commits may be the first bad one, and whether the history is linear."""
    walk = ["--first-parent"] if first_parent else []
    listed = repository.run("rev-list", "--parents", *walk, f"{good}..{bad}", "--").splitlines()
    is_line = first_parent or all(len(line.split()) <= 2 for line in listed)
    return len(listed), is_line
