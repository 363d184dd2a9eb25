"""Resolves a revision typed by a user to a commit, or suggests what to type instead."""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass

from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.pull_request import base_of_pull_request
from pytest_llmperf.repository.remotes import (
    main_remote,
    remote_branch,
    shallow_remedy,
    split_steps,
)

__all__ = ["Revision", "RevisionError", "base_of_pull_request", "resolve"]

MERGE_BASE = "merge-base:"
_DIGITS = 12
_NEAR = 3
_FULL_NAME = ("rev-parse", "--verify", "--quiet", "--symbolic-full-name")
_HEX = re.compile(r"[0-9a-fA-F]{7,64}")


class RevisionError(GitError):
    """A name that stands for no commit in this clone; the message suggests one."""


@dataclass(frozen=True)
class Revision:
    """A commit, and how the user called it.

    Attributes:
        name: as typed.
        commit: the full hash.
        subject: the first line of its message.
    """

    name: str
    commit: str
    subject: str

    @property
    def short(self) -> str:
        """The first 12 digits of the hash."""
        return self.commit[:_DIGITS]

    def __str__(self) -> str:
        if self.commit.startswith(self.name):
            return f"{self.short} {self.subject}"
        return f"{self.name} ({self.short} {self.subject})"


def resolve(repository: Repository, name: str) -> Revision:
    """Return the commit that ``name`` refers to.

    ``name`` is anything git takes for one commit, the branch of a remote without
    the remote's name, or ``merge-base:NAME`` (the newest commit that HEAD and NAME
    have in common).

    Raises:
        RevisionError: this clone has no such commit; says what to fetch, or suggests similar names.
    """
    if name.startswith(MERGE_BASE):
        commit = _merge_base(repository, name)
    else:
        commit = _find(repository, name)
    return Revision(name, commit, repository.subject(commit))


def _find(repository: Repository, name: str) -> str:
    commit = _known(repository, name)
    if commit is None:
        raise RevisionError(_missing(repository, name))
    return commit


def _known(repository: Repository, name: str) -> str | None:
    """Return the commit called ``name``, locally or as a branch of the remote."""
    commit = repository.commit(name)
    if commit is None and (branch := remote_branch(repository, name)) is not None:
        commit = repository.commit(branch)
    return commit


def _merge_base(repository: Repository, name: str) -> str:
    other = name.removeprefix(MERGE_BASE)
    if not other:
        raise RevisionError(f"{name!r} lacks a name, such as {MERGE_BASE}origin/main")
    shallow = repository.is_shallow()
    head, commit = _find(repository, "HEAD"), _known(repository, other)
    if commit is None and not shallow:
        raise RevisionError(_missing(repository, other))
    base = repository.merge_base(head, commit) if commit is not None else None
    if base is not None:
        return base
    text = f"HEAD and {other!r} have no commit in common"
    if shallow:
        remedy = shallow_remedy(repository, other, shared=True)
        raise RevisionError(f"{text} in {repository.top}, a shallow clone; {remedy}")
    raise RevisionError(f"{text}: their histories are separate ones; name another branch")


def _missing(repository: Repository, name: str) -> str:
    """Return the message that there is no such commit, and what to do."""
    if not name.strip():
        return "an empty name is not a commit; give a branch, a tag, a hash or HEAD~1"
    text = f"there is no commit {name!r} in {repository.top}"
    if repository.head() is None:
        return f"{text}: nothing has been committed there yet"
    if name.startswith("-") or any(character in name for character in "\0\n"):
        return f"{text}: that can't be a revision's name"
    if kind := _other_object(repository, name):
        return f"{name!r} is a {kind} in {repository.top}, and not a commit; name a commit"
    if ref := repository.run(*_FULL_NAME, name, check=False).strip():
        return (
            f"{ref} of {repository.top} names a commit that is missing or damaged: git fsck lists "
            "what is damaged; a new clone repairs it"
        )
    if _is_ambiguous(repository, name):
        return f"{text}: several objects begin like that; give more digits of the hash"
    if repository.is_shallow():
        return f"{text}, a shallow clone; {shallow_remedy(repository, name)}"
    start, steps = split_steps(name)
    if steps and repository.commit(start) is not None:
        before = int(repository.run("rev-list", "--count", "--first-parent", start, "--")) - 1
        return f"{text}: {start} has {before} commit{'s' * (before != 1)} before it"
    return f"{text}; {_advice(repository, start)}"


def _advice(repository: Repository, name: str) -> str:
    """Return similar names, else how to fetch a missing commit."""
    near = difflib.get_close_matches(name, _names(repository), _NEAR)
    if near:
        return f"near it: {', '.join(near)}"
    remote = main_remote(repository)
    if remote is None:
        return "git branch -a and git tag list the names there are"
    if _HEX.fullmatch(name):
        return f"if it has been pushed, fetch it: git fetch {remote}"
    branch = name.removeprefix(f"{remote}/")
    return (
        f"if it is a branch of {remote}, fetch it: "
        f"git fetch {remote} {shlex.quote(f'{branch}:refs/remotes/{remote}/{branch}')}"
    )


def _names(repository: Repository) -> list[str]:
    listing = repository.run(
        "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes", "refs/tags"
    )
    return [ref.split("/", 2)[2] for ref in listing.splitlines()]


def _other_object(repository: Repository, name: str) -> str:
    """Return the type of the object ``name`` if that is no commit: ``tree`` or ``blob``."""
    for asked in (f"{name}^{{}}", name):  # a tag stands for what it names; a path for itself
        kind = repository.run("cat-file", "-t", asked, check=False).strip()
        if kind in ("tree", "blob"):
            return kind
    return ""


def _is_ambiguous(repository: Repository, name: str) -> bool:
    if not _HEX.fullmatch(name):
        return False
    return bool(repository.run("rev-parse", f"--disambiguate={name}", check=False).split()[1:])
