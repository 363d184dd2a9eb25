"""Explains why git can't use the repository around a folder, and how to repair it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from pytest_llmperf.repository.command import Finished, GitError, git_error_text

_NONE_HERE = b"not a git repository (or any "
_NO_WORK_TREE = b"must be run in a work tree"
#: As of git 2.35.2, and of later ones.
_ANOTHER_USERS = (b"unsafe repository", b"dubious ownership")
_ADVICE = re.compile(r"\bgit config --global --add safe\.directory \S.*")
#: Fixes by git's error message; the first match counts.
_REMEDIES = (
    (
        re.compile(r"not a git repository: |gitfile"),
        "what that .git leads to is gone: clone the repository again, or remove that .git",
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

    As git, it looks no further than to the folders in GIT_CEILING_DIRECTORIES, and not on
    another file system.
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


def why_unusable(folder: Path, done: Finished) -> GitError | None:
    """Return the problem with the repository around a folder; None if there is no repository.

    ``done``: how git's search for the top of its work tree failed.
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
    return GitError(f"git can't read the repository around {folder}: {reason(done)}")


def damaged(dot_git: Path) -> GitError:
    """Return the error of a ``.git`` that git does not take for a repository."""
    return GitError(
        f"{dot_git} is damaged: git does not recognise it as a repository, because its HEAD, "
        "objects or refs are missing or unreadable; clone the repository again, or remove that "
        ".git"
    )


def reason(done: Finished) -> str:
    """Return git's error message, and how to repair the cause."""
    message = git_error_text(done)
    remedy = next((text for sign, text in _REMEDIES if sign.search(message)), "")
    return f"{message}; {remedy}" if remedy else message
