"""Real repositories for tests, and files in them."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(cwd: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="surrogateescape").strip()


def commit(root: Path, message: str = "a change", **files: str | bytes) -> str:
    """Write files (``name="content"``, ``__`` for a dot) and commit everything."""
    for name, content in files.items():
        write(root / name.replace("__", "."), content)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD")


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make(root: Path, *options: str) -> Path:
    root.mkdir(parents=True)
    git(root, "init", "--quiet", "-b", "main", *options)
    return root
