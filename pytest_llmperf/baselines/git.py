"""Which commit is being measured, asked of git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

_TIMEOUT = 20.0


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
    top = _git(cwd, "rev-parse", "--show-toplevel")
    if top is None:
        return GitState(None, False, None)
    commit = _git(cwd, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    paths = [":(top)"]
    if baselines is not None:
        root, folder = Path(top).resolve(), baselines.resolve()
        if folder != root and folder.is_relative_to(root):
            paths.append(f":(top,exclude,literal){folder.relative_to(root).as_posix()}")
    changes = _git(cwd, "status", "--porcelain", "--untracked-files=no", "--", *paths)
    branch = _git(cwd, "symbolic-ref", "--quiet", "--short", "HEAD")
    return GitState(commit or None, bool(changes), branch or None)


def _git(cwd: Path, *arguments: str) -> str | None:
    """Return git's output without the final newline, or None if it failed or is not there."""
    # Without optional locks, asking never disturbs a git that runs meanwhile.
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
    return done.stdout.decode(errors="surrogateescape").rstrip("\n")
