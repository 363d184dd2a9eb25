"""The commit to rerun a stored session at: the one it measured, or the nearest available."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.repository.git import GitError
from pytest_llmperf.repository.revisions import RevisionError, base_of_pull_request, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.repository.git import Repository
    from pytest_llmperf.repository.revisions import Revision

#: Branches that a branch may have started from; the first that exists is used.
_MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")


@dataclass(frozen=True)
class RerunCommit:
    """A commit that a stored session can be run again at.

    Attributes:
        revision: the commit.
        how: why this commit was chosen, for a reader.
    """

    revision: Revision
    how: str


def find_rerun_commit(
    stored: StoredRecord, repository: Repository, environ: Mapping[str, str] = os.environ
) -> RerunCommit:
    """Return the commit that a session measured.

    If it had uncommitted changes, or the commit is no longer in this repository
    (squashed, rebased), return the commit that added the session's file, or else
    the merge base with the main branch.

    Raises:
        RevisionError: no commit is available; the message says why, and in a
            shallow clone what to fetch.
    """
    provenance = stored.record.provenance
    commit, name = provenance.commit, stored.path.name
    if commit is not None and not provenance.dirty:
        if repository.commit(commit) is not None or repository.is_shallow():
            # In a shallow clone its oldest commit seems to have added every file.
            return RerunCommit(resolve(repository, commit), f"the commit that {name} measured")
        why = f"the commit {commit[:12]} that {name} measured is not in this repository"
    elif commit is not None:
        why = f"{name} was measured with uncommitted changes"
    else:
        why = f"{name} does not record a commit"
    if repository.is_shallow():
        raise RevisionError(f"{why}, and this clone is shallow: git fetch --unshallow")
    added = _added(stored, repository)
    if added is not None:
        return RerunCommit(resolve(repository, added), f"the commit that added {name} ({why})")
    base = _merge_base(repository, environ)
    if base is not None:
        ancestor, branch = base
        return RerunCommit(resolve(repository, ancestor), f"the merge base with {branch} ({why})")
    raise RevisionError(f"{why}, and no commit added its file")


def _added(stored: StoredRecord, repository: Repository) -> str | None:
    """Return the newest commit that added the session's file."""
    try:
        path = stored.path.resolve().relative_to(repository.top)
    except ValueError:
        return None
    try:
        added = ("log", "-1", "--diff-filter=A", "--format=%H", "--", path.as_posix())
        output = repository.run("--literal-pathspecs", *added)
    except GitError:
        return None
    return output.strip() or None


def _merge_base(repository: Repository, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the merge base with the target branch, and that branch."""
    target = base_of_pull_request(environ)
    names = (f"origin/{target}", target, *_MAIN) if target else _MAIN
    head = repository.head()
    for name in names:
        commit = repository.commit(name)
        if commit is not None and head is not None:
            base = repository.merge_base(head, commit)
            return (base, name) if base is not None else None
    return None
