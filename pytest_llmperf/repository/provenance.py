"""The commit that is being measured."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pytest_llmperf.repository.changes import changes
from pytest_llmperf.repository.git import GitError, Repository


class GitState(NamedTuple):
    """The working tree's state.

    Attributes:
        commit: HEAD, or None (no repository, no commit yet, or ``problem``).
        dirty: tracked files differ from it; untracked files and recorded baselines do not count.
        branch: or None when HEAD is detached.
        problem: why a repository that exists, or may exist, can't be read; or empty.
    """

    commit: str | None
    dirty: bool
    branch: str | None
    problem: str = ""


def read_provenance(cwd: Path, baselines: Path | None = None) -> GitState:
    """Read the state of the repository around ``cwd``.

    ``baselines`` is the store's folder: recording there does not change the
    measured code. If only a part can be read, nothing is returned: a commit
    without its changes would be wrong.
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
        head = repository.head()
        changed = changes(repository, exclude=exclude, untracked=False, submodules="configured")
        return GitState(head, bool(changed), repository.branch())
    except GitError as error:
        return GitState(None, False, None, str(error))
