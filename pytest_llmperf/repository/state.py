"""The state of a work tree: its commit, and digests of its content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_llmperf.config.embedded import sha256_of
from pytest_llmperf.repository.changes import changes
from pytest_llmperf.repository.git import GitError, Repository


class GitState(NamedTuple):
    """The working tree's state.

    Attributes:
        commit: HEAD, or None (no repository, no commit yet, or ``problem``).
        dirty: whether tracked files differ from it, other than recorded baselines.
        branch: the current branch, or None if HEAD is detached.
        problem: why a repository that exists, or may exist, can't be read; or empty.
    """

    commit: str | None
    dirty: bool
    branch: str | None
    problem: str = ""


def read_provenance(cwd: Path, baselines: Path | None = None) -> GitState:
    """Read the state of the repository around ``cwd``.

    ``baselines`` is the store's folder: changes in it do not make the tree dirty,
    as they do not change the measured code. If a part can't be read, nothing but
    the problem is returned: a commit without its changes would be wrong.
    """
    try:
        repository = Repository.around(cwd)
        if repository is None:
            return GitState(None, False, None)
        below = below_top(repository, baselines) if baselines is not None else None
        exclude = [below] if below else []
        head = repository.head()
        changed = changes(repository, exclude=exclude, untracked=False, submodules="configured")
        return GitState(head, bool(changed), repository.branch())
    except GitError as error:
        return GitState(None, False, None, str(error))


#: Bytes; larger untracked files (models, data) are identified by size and modification time.
LARGE = 64 * 1024 * 1024
#: Stands for the commit before the first commit.
UNBORN = "no-commit"
_DIGITS = 16


def state_of(repository: Repository, exclude: Sequence[str] = ()) -> str:
    """Return HEAD's hash if the work tree is clean, else the hash, ``+`` and a digest.

    The digest covers the content of every tracked file that differs from the
    commit and of every untracked file that git does not ignore. Staging changes
    nothing: tests run on the files. ``exclude`` names folders, from the top, that
    are ignored.

    Raises:
        GitError: git could not list the changes.
    """
    commit = repository.head() or UNBORN
    difference = difference_digest(repository, exclude)
    return f"{commit}+{difference}" if difference else commit


def difference_digest(repository: Repository, exclude: Sequence[str] = ()) -> str:
    """Return a digest of the differences between HEAD and the work tree; empty if none.

    ``exclude`` is as in ``state_of``.

    Raises:
        GitError: git could not list the changes.
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
) -> dict[str, bool]:
    """Return the files that differ between ``commit`` and the work tree.

    Path from the top -> whether the file is untracked. ``git diff`` is not used: it would
    refresh the index, which writes to the repository.

    Raises:
        GitError: git could not list the changes.
    """
    excluded = [f":(top,exclude,literal){folder.strip('/')}" for folder in exclude]
    listing = repository.run(
        *("diff-tree", "-r", "-z", "--name-only", "--no-renames", commit, "HEAD"),
        *("--", ":(top)", *excluded),
    )
    committed = dict.fromkeys(filter(None, listing.split("\0")), False)
    return committed | _changed(repository, exclude)


def ignored(repository: Repository) -> list[str]:
    """Return the files and folders that git ignores, as paths from the top; a folder is one entry.

    Raises:
        GitError: git could not list them.
    """
    listing = repository.run(
        *("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    )
    return [name.rstrip("/") for name in listing.split("\0") if name]


def _changed(repository: Repository, exclude: Sequence[str]) -> dict[str, bool]:
    """Return path from the top -> whether it is untracked, for all changed files."""
    changed: dict[str, bool] = {}
    for path, untracked in changes(repository, exclude=exclude):
        # A file that is staged as deleted but still exists is listed twice, tracked first.
        changed.setdefault(path, untracked)
    return changed


def _content(path: Path, untracked: bool) -> bytes:
    """Return bytes that identify a file's type, mode and content."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return b"link " + os.fsencode(path.readlink())
        if stat.S_ISDIR(status.st_mode):
            return b"folder " + _nested(path)
        mode = b"program " if status.st_mode & stat.S_IXUSR else b"file "
        if not stat.S_ISREG(status.st_mode):
            return b"other"
        if untracked and status.st_size > LARGE:
            return mode + f"{status.st_size} {status.st_mtime_ns}".encode()
        return mode + bytes.fromhex(sha256_of(path))
    except OSError as error:
        # Deleted, or not readable by this user.
        return b"none" if isinstance(error, FileNotFoundError) else b"unreadable"


def _nested(folder: Path) -> bytes:
    """Return the state of a submodule, or of another repository inside this one."""
    inner = Repository.around(folder)
    if inner is None or inner.top != folder.resolve():
        return b""
    return state_of(inner).encode()


_CONTENT_DIGITS = 20


def content_digest(repository: Repository, commit: str, exclude: Sequence[str] = ()) -> str:
    """Return a digest of a commit's files, modes, links and submodules.

    ``exclude`` names files and folders, from the top, that are ignored. Two commits with the
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
    return digest.hexdigest()[:_CONTENT_DIGITS]


def work_tree_digest(repository: Repository, exclude: Sequence[str] = ()) -> str | None:
    """Return a digest of HEAD's files and of the work tree's changes, as ``state_of`` does.

    None before the first commit.

    Raises:
        GitError: git could not list the files.
    """
    head = repository.head()
    if head is None:
        return None
    difference = difference_digest(repository, exclude)
    content = content_digest(repository, head, exclude)
    return f"{content}+{difference}" if difference else content


def below_top(repository: Repository, path: Path) -> str | None:
    """Return a path from the top of the work tree; None outside of it, and for the top itself."""
    whole = path.resolve()
    if whole == repository.top or not whole.is_relative_to(repository.top):
        return None
    return whole.relative_to(repository.top).as_posix()
