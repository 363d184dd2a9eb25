"""Which commit is being measured."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pytest_llmperf.repository.changes import changes
from pytest_llmperf.repository.git import GitError, Repository


class GitState(NamedTuple):
    """The working tree's state; (None, False, None) outside a repository or without git.

    Attributes:
        commit: HEAD, or None (no repository, no commit yet).
        dirty: tracked files differ from it; untracked files and recorded baselines do not count.
        branch: or None when HEAD is detached.
    """

    commit: str | None
    dirty: bool
    branch: str | None


def read_provenance(cwd: Path, baselines: Path | None = None) -> GitState:
    """Read the state of the repository around ``cwd``.

    ``baselines`` is the store's folder: recording there does not make the
    measured code another one.
    """
    try:
        repository = Repository.around(cwd)
        if repository is None:
            return GitState(None, False, None)
        exclude = []
        if baselines is not None:
            folder = baselines.resolve()
            if folder != repository.top and folder.is_relative_to(repository.top):
                exclude.append(folder.relative_to(repository.top).as_posix())
        changed = changes(repository, exclude=exclude, untracked=False, submodules="configured")
        return GitState(repository.head(), bool(changed), repository.branch())
    except GitError:
        return GitState(None, False, None)
