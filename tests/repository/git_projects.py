"""Real repositories for tests, and files in them."""

from __future__ import annotations

from pathlib import Path

from commit_projects import git


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
