"""Chooses the next commit to measure with ``git bisect`` in a private repository."""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.bisect.session import Call
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.private_repository import PrivateRepository


class Search:
    """A ``git bisect`` between a good and a bad commit; the user's repository is only read.

    ``good`` is an ancestor of ``bad``; both are full hashes. ``folder`` is for the private
    repository and does not exist yet.

    Raises:
        GitError: git refuses, or the folder can't be written to.
    """

    def __init__(
        self, repository: Repository, good: str, bad: str, folder: Path, first_parent: bool = False
    ) -> None:
        self._git = PrivateRepository.create(folder, repository.top)
        self._bad = bad
        self._walk = ["--first-parent"] if first_parent else []
        self._skipped: set[str] = set()
        # git bisect needs a HEAD to start.
        self._git.git("update-ref", "--no-deref", "HEAD", bad)
        self._git.git("bisect", "start", "--no-checkout", *self._walk, bad, good)

    def candidates(self) -> list[str]:
        """Return the commits that may be the first bad one, led by the one known to be bad."""
        listed = self._git.git(
            *("rev-list", "--topo-order", *self._walk, "refs/bisect/bad"),
            *("--not", "--glob=refs/bisect/good-*"),
        )
        return listed.split()

    def next(self) -> str | None:
        """Return the next commit to measure; None if none would narrow the range further."""
        open_ = set(self.candidates()[1:]) - self._skipped
        if not open_:
            return None
        return self._git.git("rev-parse", "BISECT_HEAD").strip()

    def answer(self, commit: str, call: Call) -> None:
        """Pass the call about a commit to git."""
        if call == "skip":
            self._skipped.add(commit)
        try:
            self._git.git("bisect", call, commit)
        except GitError:
            # git also reports an error if only skipped commits are left.
            if self.next() is not None:
                raise

    def skipped(self) -> list[str]:
        """Return the candidates that could not be judged, newest first."""
        return [commit for commit in self.candidates() if commit in self._skipped]

    def log(self) -> str:
        """Return the output of ``git bisect log``, the input of ``git bisect replay``."""
        return self._git.git("bisect", "log")
