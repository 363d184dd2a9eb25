"""Damages that make a real repository unusable, and the error message for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from commit_projects import git


def two_commits(top: Path) -> None:
    """Make a folder's files a repository of two commits, the second one empty."""
    git(top, "init", "--quiet", "-b", "main")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--allow-empty", "-m", "the first one")
    git(top, "commit", "--quiet", "--allow-empty", "-m", "the second one")


def lose_what_dot_git_leads_to(top: Path) -> None:
    """Make ``.git`` lead to a removed repository, as in an orphaned work tree or submodule."""
    main = top.parent / f"main of {top.name}"
    shutil.move(top / ".git", main)
    (top / ".git").write_text(f"gitdir: {main}\n")
    git(top, "rev-parse", "HEAD")
    shutil.rmtree(main)


def hang(top: Path) -> None:
    """Make git wait forever for the content of HEAD, as on a disk that does not answer."""
    (top / ".git" / "HEAD").unlink()
    os.mkfifo(top / ".git" / "HEAD")


def _write(name: str, content: str = "garbage\n") -> Callable[[Path], object]:
    return lambda top: (top / ".git" / name).write_text(content)


def _spoil(name: str, content: str | None) -> Callable[[Path], object]:
    def spoil(top: Path) -> None:
        digest = git(top, "rev-parse", name)
        file = top / ".git" / "objects" / digest[:2] / digest[2:]
        file.unlink()
        if content is not None:
            file.write_text(content)

    return spoil


#: Name -> function that does the damage, and pattern of the error: problem, cause and fix.
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "HEAD is garbage": (_write("HEAD"), r"\.git is damaged: .*HEAD.*; clone the repository again"),
    "HEAD is gone": (lambda top: (top / ".git" / "HEAD").unlink(), r"\.git is damaged: .*; clone"),
    "the branch is empty": (_write("refs/heads/main", ""), "broken; git fsck lists what"),
    "the commit is gone": (_spoil("HEAD", None), "bad object HEAD; git fsck lists what is damaged"),
    "the commit is garbage": (_spoil("HEAD", "x"), "is corrupt; git fsck lists what is damaged"),
    "the tree is empty": (_spoil("HEAD^{tree}", ""), "is corrupt; git fsck lists what is damaged"),
    "the index is garbage": (_write("index"), r"index file .*: rm \.git/index && git reset"),
    "the settings are garbage": (_write("config", "[x"), "bad config line .*; correct that line"),
    "the main repository is gone": (
        lose_what_dot_git_leads_to,
        "points to no longer exists: clone",
    ),
    "it is bare": (
        lambda top: git(top, "config", "core.bare", "true"),
        "is bare: .*; use a clone of it",
    ),
    "it is of the future": (
        lambda top: git(top, "config", "core.repositoryFormatVersion", "99"),
        "git can't read the repository around .*: .*found 99",
    ),
}
