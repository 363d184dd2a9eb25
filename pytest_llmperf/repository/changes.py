"""Lists files of a work tree that differ from HEAD, without running the repository's filters.

Where a file's time differs from the one in the index, ``git status`` passes the content through
the ``clean`` program of its filter (``.gitattributes``, ``filter.NAME.clean``). Programs that
the repository's own settings name are not run: such a file is compared unfiltered. Only files
stored by Git LFS are recognised, by the size and the hash in their pointer. Filters in the
user's global settings are the user's own, so they run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from pytest_llmperf.config.embedded import sha256_of
from pytest_llmperf.repository import command
from pytest_llmperf.repository.command import GitError, execute
from pytest_llmperf.repository.git import Repository, failure_with_remedy

#: Which changes in submodules count: all, as configured, none.
Submodules = Literal["all", "configured", "none"]
_IGNORED: Mapping[Submodules, Sequence[str]] = {
    "all": ("--ignore-submodules=none",),
    "configured": (),
    "none": ("--ignore-submodules=all",),
}
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-.*\n)*"
    rb"oid sha256:(?P<hash>[0-9a-f]{64})\nsize (?P<size>[0-9]+)\n"
)
#: Bytes; pointers are shorter, according to the specification of Git LFS.
_LONGEST_POINTER = 1024
#: Arguments that list the index, from the top of the work tree.
INDEX = ("ls-files", "-z", "--stage", "--", ":(top)")
_OWN = (b"local", b"worktree")
_WRONG_OPTION = 129


class FileChange(NamedTuple):
    """A file that differs from HEAD, as a path from the top of the work tree."""

    path: str
    untracked: bool


def changes(
    repository: Repository,
    *,
    below: str = "",
    exclude: Sequence[str] = (),
    untracked: bool = True,
    submodules: Submodules = "all",
) -> list[FileChange]:
    """List the files that differ between HEAD and the index, or the index and the work tree.

    ``below`` and ``exclude`` are folders, from the top; an empty ``below`` is the whole tree.

    Raises:
        GitError: git could not list it.
    """
    filters = _own_filters(repository.top, nested=submodules != "none")
    status = _execute(
        repository.top,
        *_switched_off(filters),
        *("status", "--porcelain=v2", "-z", "--no-renames"),
        f"--untracked-files={'all' if untracked else 'no'}",
        *_IGNORED[submodules],
        *("--", f":(top,literal){below}" if below else ":(top)"),
        *(f":(top,exclude,literal){folder.strip('/')}" for folder in exclude),
    )
    listed: list[FileChange] = []
    suspects: dict[str, str] = {}
    for entry in status.split("\0"):
        kind, _, rest = entry.partition(" ")
        if kind == "?":
            listed.append(FileChange(rest, untracked=True))
        elif kind == "u":
            listed.append(FileChange(rest.split(" ", 9)[9], untracked=False))
        elif kind == "1":
            state, submodule, _, before, now, _, blob, path = rest.split(" ", 7)
            listed.append(FileChange(path, untracked=False))
            # Only for a file that is unchanged in the index and has the same mode.
            if filters and (state, submodule) == (".M", "N...") and before == now:
                suspects[path] = blob
    same = _stored_by_lfs(repository, suspects) if suspects else set()
    return [change for change in listed if change.untracked or change.path not in same]


def _stored_by_lfs(repository: Repository, files: Mapping[str, str]) -> set[str]:
    """Return the files (path -> blob) whose content matches the LFS pointer in their blob."""
    blobs = list(dict.fromkeys(files.values()))
    asked = "".join(f"{blob}\n" for blob in blobs).encode()
    sizes = _execute(repository.top, "cat-file", "--batch-check=%(objectsize)", stdin=asked)
    short = [
        blob
        for blob, size in zip(blobs, sizes.splitlines(), strict=True)
        if size.isdigit() and int(size) <= _LONGEST_POINTER
    ]
    pointers = dict(zip(short, map(_POINTER.fullmatch, repository.blobs(short)), strict=True))
    same = set()
    for path, blob in files.items():
        pointer, file = pointers.get(blob), repository.top / path
        with suppress(OSError):
            if (
                pointer is not None
                and file.stat().st_size == int(pointer["size"])
                and sha256_of(file) == pointer["hash"].decode()
            ):
                same.add(path)
    return same


def _own_filters(top: Path, *, nested: bool) -> set[str]:
    """Return the names of the filters in a repository's own settings, and its submodules'."""
    query = ("--null", "--name-only", "--get-regexp", r"^filter\..*\.")
    listed = execute(["config", "--show-scope", *query], top, limit=command.SCAN_SECONDS)
    if listed.returncode == _WRONG_OPTION:  # git before 2.26: scopes are unknown
        keys = execute(["config", *query], top, limit=command.SCAN_SECONDS).stdout.split(b"\0")
    else:
        fields = listed.stdout.split(b"\0")
        pairs = zip(fields[::2], fields[1::2], strict=False)
        keys = [key for scope, key in pairs if scope in _OWN]
    names = [os.fsdecode(key).partition(".")[2].rpartition(".")[0] for key in keys]
    filters = set(filter(None, names))
    if nested:
        for inner in _checked_out_submodules(top):
            filters |= _own_filters(inner, nested=True)
    return filters


def _checked_out_submodules(top: Path) -> Iterator[Path]:
    for path in gitlinks(_execute(top, *INDEX)):
        if (top / path / ".git").exists():
            inner = (top / path).resolve()
            # A link that leads back up would recurse forever.
            if inner != top.resolve() and inner.is_relative_to(top.resolve()):
                yield inner


def gitlinks(listing: str) -> dict[str, str]:
    """Return path -> commit of the submodules in the output of ``git ls-files --stage -z``."""
    commits = {}
    for entry in listing.split("\0"):
        facts, _, path = entry.partition("\t")
        if facts.startswith("160000"):
            commits[path] = facts.split()[1]
    return commits


def _switched_off(filters: set[str]) -> list[str]:
    """Return the git options that disable these filters.

    Raises:
        GitError: a name can't be given to git.
    """
    options = []
    for name in sorted(filters):
        if "=" in name:
            raise GitError(
                f"the repository's settings name a filter {name!r}, which can't be switched off "
                "because of the '=' in its name, so git is not asked for changes; rename it"
            )
        off = {"clean": "", "smudge": "", "process": "", "required": "false"}
        for key, value in off.items():
            options += ["-c", f"filter.{name}.{key}={value}"]
    return options


def _execute(top: Path, *arguments: str, stdin: bytes | None = None) -> str:
    done = execute(arguments, top, stdin=stdin, limit=command.SCAN_SECONDS)
    if done.returncode != 0:
        raise GitError(f"git could not look for changes in {top}: {failure_with_remedy(done)}")
    return done.stdout.decode(errors="surrogateescape")
