"""Identifies the exact content of a work tree: its commit, and a digest of its changes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from pytest_llmperf.repository.changes import changes
from pytest_llmperf.repository.git import Repository

#: Untracked files larger than this (models, data) are known by size and modification time, bytes.
LARGE = 64 * 1024 * 1024
#: Replaces the commit before there is one.
UNBORN = "no-commit"
_CHUNK = 1024 * 1024
_DIGITS = 16


def state_of(repository: Repository, exclude: Sequence[str] = ()) -> str:
    """Return HEAD's hash if the work tree is clean, else the hash, ``+`` and a digest.

    The digest covers the content of every tracked file that differs from the
    commit and of every untracked one that git does not ignore. What is staged
    changes nothing: tests run on the files. ``exclude`` names folders, from the
    top, that do not count.

    Raises:
        GitError: git could not list what differs.
    """
    commit = repository.head() or UNBORN
    difference = difference_of(repository, exclude)
    return f"{commit}+{difference}" if difference else commit


def difference_of(repository: Repository, exclude: Sequence[str] = ()) -> str:
    """Return a digest of what differs between HEAD and the work tree; empty if nothing does.

    ``exclude`` as ``state_of`` takes it.

    Raises:
        GitError: git could not list what differs.
    """
    changed = _changed(repository, exclude)
    if not changed:
        return ""
    digest = hashlib.sha256()
    for path, untracked in sorted(changed.items()):
        for part in (os.fsencode(path), _content(repository.top / path, untracked)):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:_DIGITS]


def changed_since(
    repository: Repository, commit: str, exclude: Sequence[str] = ()
) -> frozenset[str]:
    """Return the files that differ between ``commit`` and the work tree, as paths from the top.

    ``git diff`` would refresh the index, which writes to the repository.

    Raises:
        GitError: git could not list what differs.
    """
    excluded = [f":(top,exclude,literal){folder.strip('/')}" for folder in exclude]
    listing = repository.run(
        *("diff-tree", "-r", "-z", "--name-only", "--no-renames", commit, "HEAD"),
        *("--", ":(top)", *excluded),
    )
    return frozenset(filter(None, listing.split("\0"))) | frozenset(_changed(repository, exclude))


def ignored(repository: Repository) -> list[str]:
    """Return the files and folders that git ignores, as paths from the top; folders as one.

    Raises:
        GitError: git could not list them.
    """
    listing = repository.run(
        *("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    )
    return [name.rstrip("/") for name in listing.split("\0") if name]


def _changed(repository: Repository, exclude: Sequence[str]) -> dict[str, bool]:
    """Return path from the top -> whether it is untracked, of all changed files."""
    changed: dict[str, bool] = {}
    for path, untracked in changes(repository, exclude=exclude):
        # A file that is staged as deleted but still exists is listed twice, tracked first.
        changed.setdefault(path, untracked)
    return changed


def _content(path: Path, untracked: bool) -> bytes:
    """Return bytes that identify a file's type, mode and content."""
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return b"link " + os.fsencode(path.readlink())
        if stat.S_ISDIR(found.st_mode):
            return b"folder " + _nested(path)
        mode = b"program " if found.st_mode & stat.S_IXUSR else b"file "
        if not stat.S_ISREG(found.st_mode):
            return b"other"
        if untracked and found.st_size > LARGE:
            return mode + f"{found.st_size} {found.st_mtime_ns}".encode()
        return mode + _digest(path)
    except OSError as error:
        # Deleted, or not readable for this user.
        return b"none" if isinstance(error, FileNotFoundError) else b"unreadable"


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()


def _nested(folder: Path) -> bytes:
    """Return the state of a submodule or of a repository inside this one."""
    inner = Repository.around(folder)
    if inner is None or inner.top != folder.resolve():
        return b""
    return state_of(inner).encode()
