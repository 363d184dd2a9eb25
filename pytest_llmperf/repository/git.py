"""Read-only queries about a user's repository, and the reasons why it can't be used."""

from __future__ import annotations

import os
import re
import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from pytest_llmperf.repository import command
from pytest_llmperf.repository.command import Finished, execute, git_error_text, start, stop
from pytest_llmperf.repository.command import GitError as GitError
from pytest_llmperf.repository.command import GitKilledError as GitKilledError

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Repository:
    """A user's repository with a work tree, read only.

    Attributes:
        top: the top of the work tree, resolved.
        common_dir: the repository's own folder (``.git``), also from a linked worktree.
    """

    def __init__(self, top: Path, common_dir: Path) -> None:
        self.top = top
        self.common_dir = common_dir

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """Return the repository around ``folder``, None if there is none.

        Raises:
            GitError: the repository can't be used: git is not installed, does not answer or
                refuses to read it, it is damaged, or it has no work tree.
        """
        if not folder.is_dir():
            return None
        try:
            done = execute(["rev-parse", "--show-toplevel"], folder, limit=command.QUERY_SECONDS)
        except GitKilledError:
            raise
        except GitError:
            if dot_git_above(folder) is None:
                return None
            raise
        if done.returncode != 0:
            if (problem := repository_problem(folder, done)) is not None:
                raise problem
            return None
        top = Path(_line(done.stdout)).resolve()
        dot_git = dot_git_above(folder)
        # Git skips a damaged .git and takes the next one above, which is another project's.
        if (
            dot_git is not None
            and dot_git.parent != top
            and dot_git.is_dir()
            and (folder / cls._path("--git-dir", folder)).resolve() != dot_git.resolve()
        ):
            raise damaged(dot_git)
        return cls(top, (top / cls._path("--git-common-dir", top)).resolve())

    def commit(self, rev: str) -> str | None:
        """Return the full hash of the commit that ``rev`` names, None if this clone lacks it."""
        if not rev or rev.startswith("-") or any(char in rev for char in "\0\n"):
            return None
        try:
            os.fsencode(rev)
        except UnicodeEncodeError:
            return None
        output = self._ask("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
        printed = (output or "").strip()
        return printed if _HASH.fullmatch(printed) else None

    def head(self) -> str | None:
        """Return HEAD's commit, None before the first commit.

        Raises:
            GitError: HEAD names a commit that can't be read.
        """
        commit = self.commit("HEAD")
        if commit is None:
            done = execute(["log", "-1", "--format=%H"], self.top, limit=command.QUERY_SECONDS)
            if done.returncode != 0 and b"does not have any commits yet" not in done.stderr:
                raise GitError(f"git can't read HEAD of {self.top}: {failure_with_remedy(done)}")
        return commit

    def branch(self) -> str | None:
        """Return the current branch, None when HEAD is detached."""
        return (self._ask("symbolic-ref", "--quiet", "--short", "HEAD") or "").strip() or None

    def subject(self, commit: str) -> str:
        """Return the first line of the commit's message."""
        output = self.run(
            "log", "-1", "--no-color", "--encoding=UTF-8", "--format=%s", commit, "--"
        )
        return _line(output.encode(errors="surrogateescape"))

    def is_shallow(self) -> bool:
        """Whether the history is cut off: a shallow clone or fetch."""
        return (self._ask("rev-parse", "--is-shallow-repository") or "").strip() == "true"

    def merge_base(self, a: str, b: str) -> str | None:
        """Return the best common ancestor of two commits, None if this clone knows none.

        Raises:
            GitError: a commit between them can't be read.
        """
        return next(iter((self._ancestry(a, b) or "").split()), None)

    def is_ancestor(self, a: str, b: str) -> bool:
        """Whether commit ``a`` is commit ``b`` or an ancestor of it.

        Raises:
            GitError: a commit between them can't be read.
        """
        return self._ancestry("--is-ancestor", a, b) is not None

    def files(self, commit: str, folder: str = "") -> dict[str, str]:
        """Return the regular files of a commit below ``folder``: path from the top -> blob id.

        Paths are POSIX paths; bytes that are not UTF-8 become surrogate escapes.
        """
        below = PurePosixPath(folder)
        if below.is_absolute() or ".." in below.parts:
            return {}
        pathspec = [] if below == PurePosixPath() else ["--", below.as_posix()]
        listing = self.run(
            "--literal-pathspecs", "ls-tree", "-rz", "--full-tree", commit, *pathspec
        )
        blobs = {}
        for entry in listing.split("\0"):
            facts, _, path = entry.partition("\t")
            if facts.startswith("100"):
                blobs[path] = facts.split()[2]
        return blobs

    def blobs(self, ids: Sequence[str]) -> Iterator[bytes]:
        """Yield the contents of blobs in the order of ``ids``, one at a time.

        Raises:
            GitError: a blob is missing.
        """
        for blob, content in zip(ids, self.available_blobs(ids), strict=True):
            if content is None:
                raise self._unreadable(blob)
            yield content

    def available_blobs(
        self, ids: Sequence[str], max_bytes: int | None = None
    ) -> Iterator[bytes | None]:
        """Yield the contents of blobs in the order of ``ids``; None if missing or too long.

        Raises:
            GitError: git ended at a blob, as it does for a missing object of a partial clone.
        """
        if not ids:
            return
        process = start(["cat-file", "--batch", "--buffer"], self.top)
        assert process.stdin is not None
        assert process.stdout is not None
        # Written by another thread: git answers before it has read all queries.
        asking = threading.Thread(target=_write_lines, args=(process.stdin, ids), daemon=True)
        asking.start()
        try:
            for blob in ids:
                yield self._read_blob(process.stdout, blob, max_bytes)
        finally:
            stop(process)
            asking.join()
            process.stdout.close()

    def run(self, *args: str, check: bool = True, stdin: str | None = None) -> str:
        """Run git and return its output (bytes that are not UTF-8 as surrogate escapes).

        Raises:
            GitError: git failed, with git's own message; not raised if ``check`` is False.
        """
        given = None if stdin is None else stdin.encode(errors="surrogateescape")
        done = execute(args, self.top, stdin=given, limit=command.SCAN_SECONDS)
        if check and done.returncode != 0:
            raise GitError(f"git {args[0]} failed in {self.top}: {failure_with_remedy(done)}")
        return done.stdout.decode(errors="surrogateescape")

    def _ask(self, *arguments: str) -> str | None:
        """Return git's output, None if it failed."""
        done = execute(arguments, self.top, limit=command.QUERY_SECONDS)
        return done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else None

    def _ancestry(self, *arguments: str) -> str | None:
        """Return the output of ``git merge-base``; None if it says no or a commit is missing."""
        done = execute(["merge-base", *arguments], self.top, limit=command.SCAN_SECONDS)
        output = done.stderr
        # Git reports an unreadable commit and goes on, so its no can't be trusted.
        if done.returncode != 0 and (b"error: " in output or b"fatal: " in output):
            if b"Not a valid commit name" in output:
                return None
            raise GitError(f"git merge-base failed in {self.top}: {failure_with_remedy(done)}")
        return done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else None

    @staticmethod
    def _path(option: str, folder: Path) -> str:
        """Return a path from ``git rev-parse``, which is absolute or relative to the folder."""
        done = execute(["rev-parse", option], folder, limit=command.QUERY_SECONDS)
        if done.returncode != 0:
            raise GitError(
                f"git can't read the repository around {folder}: {failure_with_remedy(done)}"
            )
        return _line(done.stdout)

    def _read_blob(self, stream: IO[bytes], blob: str, max_bytes: int | None) -> bytes | None:
        line = stream.readline()
        head = line.split()
        if len(head) != 3:
            if line.endswith(b" missing\n"):
                return None
            raise self._unreadable(blob)
        size = int(head[2])
        if max_bytes is not None and size > max_bytes:
            _skip(stream, size + 1)
            return None
        content = stream.read(size + 1)
        if len(content) != size + 1:
            raise self._unreadable(blob)
        return content[:size]

    def _unreadable(self, blob: str) -> GitError:
        return GitError(
            f"object {blob} of {self.top} can't be read; the repository is a partial clone or "
            "damaged; git fetch --refetch may repair it, git fsck lists damage"
        )


def _skip(stream: IO[bytes], size: int) -> None:
    while size > 0 and (read := len(stream.read(min(size, 1 << 20)))):
        size -= read


def _write_lines(stream: IO[bytes], lines: Sequence[str]) -> None:
    with suppress(OSError):  # the reader has gone
        for first in range(0, len(lines), 1000):
            stream.write("".join(f"{line}\n" for line in lines[first : first + 1000]).encode())
    with suppress(OSError):
        stream.close()


def _line(output: bytes) -> str:
    """Return a printed line; a path may itself contain line breaks, even at its end."""
    return output.removesuffix(b"\n").decode(errors="surrogateescape")


_NONE_HERE = b"not a git repository (or any "
_NO_WORK_TREE = b"must be run in a work tree"
#: Messages of git 2.35.2, and of later versions.
_ANOTHER_USERS = (b"unsafe repository", b"dubious ownership")
_ADVICE = re.compile(r"\bgit config --global --add safe\.directory \S.*")
#: Fixes by git's error message; the first match counts.
_REMEDIES = (
    (
        re.compile(r"not a git repository: |gitfile"),
        "the repository that this .git points to no longer exists: clone it again, or remove the "
        ".git file",
    ),
    (re.compile(r"index file"), "build a new index: rm .git/index && git reset"),
    (re.compile(r"config line"), "correct that line"),
    (
        re.compile(r"corrupt|broken|bad object|unable to read|[Cc]ould not read|failed to read"),
        "git fsck lists what is damaged; a new clone repairs it",
    ),
)
_OTHER_DISKS = "GIT_DISCOVERY_ACROSS_FILESYSTEM"


def dot_git_above(folder: Path) -> Path | None:
    """Return the nearest ``.git`` in a folder or above it, valid or not.

    Like git, it stops at the folders in GIT_CEILING_DIRECTORIES and at another file system.
    """
    ceilings = {
        os.path.realpath(path)
        for path in os.environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep)
        if path
    }
    start = Path(os.path.realpath(folder))
    for place in (start, *start.parents):
        if place != start and str(place) in ceilings:
            return None
        if _OTHER_DISKS not in os.environ and place.stat().st_dev != start.stat().st_dev:
            return None
        if os.path.lexists(place / ".git"):
            return place / ".git"
    return None


def repository_problem(folder: Path, done: Finished) -> GitError | None:
    """Return the problem with the repository around a folder; None if there is no repository.

    ``done`` is git's failed search for the top of the work tree.
    """
    dot_git = dot_git_above(folder)
    if any(sign in done.stderr for sign in _ANOTHER_USERS):
        advice = _ADVICE.search(git_error_text(done))
        top = dot_git.parent if dot_git is not None else folder
        allow = f"git config --global --add safe.directory {shlex.quote(str(top))}"
        return GitError(
            f"git does not read the repository around {folder}, which belongs to another user: "
            f"if you trust what is in it, run {advice[0] if advice else allow}"
        )
    if _NO_WORK_TREE in done.stderr:
        return GitError(
            f"the repository around {folder} is bare: it has no work tree whose changes git could "
            "list; use a clone of it, or, if these are its files, run git config core.bare false"
        )
    if _NONE_HERE in done.stderr:
        return damaged(dot_git) if dot_git is not None else None
    return GitError(f"git can't read the repository around {folder}: {failure_with_remedy(done)}")


def damaged(dot_git: Path) -> GitError:
    """Return the error for a ``.git`` that git does not recognise as a repository."""
    return GitError(
        f"{dot_git} is damaged: git does not recognise it as a repository, because its HEAD, "
        "objects or refs are missing or unreadable; clone the repository again, or remove that "
        ".git"
    )


def failure_with_remedy(done: Finished) -> str:
    """Return git's error message, and how to repair the cause."""
    message = git_error_text(done)
    remedy = next((text for sign, text in _REMEDIES if sign.search(message)), "")
    return f"{message}; {remedy}" if remedy else message
