"""Finds the remote of a missing commit, and the git command that fetches it."""

from __future__ import annotations

import re
import shlex

from pytest_llmperf.repository.git import Repository

_FULL = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ABBREVIATED = re.compile(r"[0-9a-fA-F]{7,63}")
#: ``main~3^2`` is a name and steps back from it.
_STEPS = re.compile(r"(?P<name>.*?)(?P<steps>(?:[~^][0-9]*)+)", re.DOTALL)


def split_steps(name: str) -> tuple[str, int]:
    """Return ``main`` and 4 for ``main~3^``; 0 where there are no steps back."""
    found = _STEPS.fullmatch(name)
    if found is None:
        return name, 0
    steps = re.findall(r"([~^])([0-9]*)", found["steps"])
    return found["name"], sum(int(count or 1) if mark == "~" else 1 for mark, count in steps)


def main_remote(repository: Repository) -> str | None:
    """Return ``origin`` if there is one, else the branch's remote, else the first; or None."""
    remotes = repository.run("remote", check=False).split()
    if "origin" in remotes or not remotes:
        return "origin" if remotes else None
    branch = repository.branch()
    own = repository.run("config", f"branch.{branch}.remote", check=False).strip()
    return own if own in remotes else remotes[0]


def remote_branch(repository: Repository, name: str) -> str | None:
    """Return the full local ref of the main remote's branch ``name``, fetched or not.

    None where ``name`` can't be a branch or there is no remote.
    """
    remote = main_remote(repository)
    if remote is None or not name or name.startswith("-") or "\0" in name:
        return None
    return f"refs/remotes/{remote}/{name}"


def shallow_remedy(repository: Repository, name: str, shared: bool = False) -> str:
    """Return advice, with the exact ``git fetch``, that makes ``name`` known in a shallow clone.

    ``shared`` asks for the history that ``name`` and HEAD have in common.
    """
    remote = main_remote(repository)
    if remote is None:
        return (
            "it has no remote to fetch from: clone the repository again with its whole history, "
            "or name its source: git remote add origin URL"
        )
    name, steps = split_steps(name)
    branch = name.removeprefix(f"{remote}/")
    is_hash = _FULL.fullmatch(name) is not None
    wanted = name if is_hash else f"{branch}:refs/remotes/{remote}/{branch}"
    fetched = f"{remote} {shlex.quote(wanted)}"
    known = repository.commit(name) or repository.commit(f"{remote}/{name}")
    if shared:
        fetch = f"git fetch --unshallow {remote if known else fetched}"
        return f"fetch the history they share: {fetch}"
    if steps and known:
        return f"fetch more of its history: git fetch --deepen={steps} {remote}"
    if steps:
        return f"fetch it with its history: git fetch --depth={steps + 1} {fetched}"
    if is_hash:
        return f"fetch it: git fetch --depth=1 {fetched}"
    if _ABBREVIATED.fullmatch(name):
        return (
            f"fetch the whole history: git fetch --unshallow {remote} "
            "(or give the full hash, which can be fetched alone)"
        )
    tag = f"git fetch --depth=1 {remote} tag {shlex.quote(name)}"
    return f"fetch it: git fetch --depth=1 {fetched} (a tag: {tag})"
