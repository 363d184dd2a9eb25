"""Digests of the files of a commit or a work tree: equal if nothing differs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.state import difference_of

_DIGITS = 20


def content_of(repository: Repository, commit: str, exclude: Sequence[str] = ()) -> str:
    """Return a digest of a commit's files, modes, links and submodules.

    ``exclude`` names files and folders, from the top, that do not count. Two commits with the
    same digest are checked out as the same files.

    Raises:
        GitError: the commit's tree is missing.
    """
    listing = repository.run("ls-tree", "-rz", "--full-tree", commit)
    outside = [folder.strip("/") for folder in exclude]
    digest = hashlib.sha256()
    for entry in listing.split("\0"):
        path = entry.partition("\t")[2]
        if not any(path == folder or path.startswith(f"{folder}/") for folder in outside):
            digest.update(entry.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:_DIGITS]


def work_tree_content(repository: Repository, exclude: Sequence[str] = ()) -> str | None:
    """Return a digest of HEAD's files and of the work tree's changes, as ``state_of`` does.

    None before the first commit.

    Raises:
        GitError: git could not list the files.
    """
    head = repository.head()
    if head is None:
        return None
    difference = difference_of(repository, exclude)
    content = content_of(repository, head, exclude)
    return f"{content}+{difference}" if difference else content


def below_top(repository: Repository, path: Path) -> str | None:
    """Return a path from the top of the work tree; None outside of it, and for the top itself."""
    whole = path.resolve()
    if whole == repository.top or not whole.is_relative_to(repository.top):
        return None
    return whole.relative_to(repository.top).as_posix()
