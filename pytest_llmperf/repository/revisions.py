"""Resolves a revision to a commit, and says what to type or fetch if there is none."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llmperf.repository.git import GitError, Repository

__all__ = ["Revision", "RevisionError", "base_of_pull_request", "resolve"]

MERGE_BASE = "merge-base:"
_DIGITS = 12
_NEAR = 3
_FULL_NAME = ("rev-parse", "--verify", "--quiet", "--symbolic-full-name")
_HEX = re.compile(r"[0-9a-fA-F]{7,64}")


class RevisionError(GitError):
    """A name stands for no commit in this clone; the message suggests a fix."""


@dataclass(frozen=True)
class Revision:
    """A commit (full hash and first line of its message), and the name that the user typed."""

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

    ``name`` is anything that git resolves to one commit, the branch of a remote
    without the remote's name, or ``merge-base:NAME`` (the newest commit that HEAD
    and NAME have in common).

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
    """Return the message that there is no such commit, with a fix."""
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
        return f"did you mean {' or '.join(near)}?"
    remote = main_remote(repository)
    if remote is None:
        return "list the names with git branch -a and git tag"
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
    """Return the type of the object ``name`` if it is not a commit: ``tree`` or ``blob``."""
    for asked in (f"{name}^{{}}", name):  # a tag stands for what it names; a path for itself
        kind = repository.run("cat-file", "-t", asked, check=False).strip()
        if kind in ("tree", "blob"):
            return kind
    return ""


def _is_ambiguous(repository: Repository, name: str) -> bool:
    if not _HEX.fullmatch(name):
        return False
    return bool(repository.run("rev-parse", f"--disambiguate={name}", check=False).split()[1:])


_FULL = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: ``main~3^2`` is a name and the steps back from it.
_STEPS = re.compile(r"(?P<name>.*?)(?P<steps>(?:[~^][0-9]*)+)", re.DOTALL)


def split_steps(name: str) -> tuple[str, int]:
    """Return ``main`` and 4 for ``main~3^``; 0 where there are no steps back."""
    match = _STEPS.fullmatch(name)
    if match is None:
        return name, 0
    steps = re.findall(r"([~^])([0-9]*)", match["steps"])
    return match["name"], sum(int(count or 1) if mark == "~" else 1 for mark, count in steps)


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
    if _HEX.fullmatch(name):  # an abbreviated hash
        return (
            f"fetch the whole history: git fetch --unshallow {remote} "
            "(or give the full hash, which can be fetched alone)"
        )
    tag = f"git fetch --depth=1 {remote} tag {shlex.quote(name)}"
    return f"fetch it: git fetch --depth=1 {fetched} (a tag: {tag})"


#: Variables that are set only in builds of pull requests, according to each service's docs.
_TARGETS = (
    "GITHUB_BASE_REF",  # GitHub Actions, Gitea, Forgejo
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",  # GitLab
    "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME",  # GitLab, for a repository elsewhere
    "SYSTEM_PULLREQUEST_TARGETBRANCH",  # Azure Pipelines
    "BITBUCKET_PR_DESTINATION_BRANCH",
    "CHANGE_TARGET",  # Jenkins, multibranch
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH",
    "CIRRUS_BASE_BRANCH",
    "CI_COMMIT_TARGET_BRANCH",  # Woodpecker
    "PULL_BASE_REF",  # Prow
    "BITRISEIO_GIT_BRANCH_DEST",
    "CODEBUILD_WEBHOOK_BASE_REF",
)
#: (set in pull requests, names the target branch there and something else otherwise)
_CONDITIONAL = (
    ("TRAVIS_PULL_REQUEST", "TRAVIS_BRANCH"),
    ("APPVEYOR_PULL_REQUEST_NUMBER", "APPVEYOR_REPO_BRANCH"),
    ("DRONE_PULL_REQUEST", "DRONE_TARGET_BRANCH"),
    ("SEMAPHORE_GIT_PR_NUMBER", "SEMAPHORE_GIT_BRANCH"),
)


def base_of_pull_request(environ: Mapping[str, str]) -> str | None:
    """Return the target branch of the pull request being built, else None.

    It is the plain name, without ``refs/heads/`` or a remote's name.
    """
    for name in _TARGETS:
        if branch := _branch(environ.get(name)):
            return branch
    for condition, name in _CONDITIONAL:
        if _branch(environ.get(condition)) not in (None, "false", "0"):
            return _branch(environ.get(name))
    return None


def _branch(value: str | None) -> str | None:
    stripped = (value or "").strip().removeprefix("refs/heads/")
    # Buildkite says "false" where there is none.
    return stripped if stripped and stripped != "false" else None
