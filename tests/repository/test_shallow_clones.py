"""Errors in a shallow clone give the command that fetches what is missing; each is then run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from commit_projects import repository_at
from git_projects import commit, git, make

from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.revisions import RevisionError, resolve


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """Ten commits on main, and a branch ``feature`` with five more after the sixth."""
    root = make(tmp_path / "upstream")
    for number in range(10):
        commit(root, f"main {number}")
    git(root, "switch", "--quiet", "-c", "feature", "HEAD~4")
    for number in range(5):
        commit(root, f"feature {number}")
    git(root, "tag", "v1", "HEAD~3")
    return root


@pytest.fixture
def clone(upstream: Path, tmp_path: Path) -> Repository:
    """A clone of the newest commit of ``feature`` only."""
    options = ["--quiet", "--depth=1", "--branch=feature"]
    git(tmp_path, "clone", *options, upstream.resolve().as_uri(), "clone")
    repository = repository_at(tmp_path / "clone")
    assert repository.is_shallow()
    return repository


def remedy(repository: Repository, name: str) -> str:
    """Return the first command that the error names."""
    with pytest.raises(RevisionError) as error:
        resolve(repository, name)
    words = str(error.value)
    assert "a shallow clone" in words
    return "git fetch " + words.partition("git fetch ")[2].partition(" (")[0]


def follow(repository: Repository, name: str) -> str:
    """Run the command that the error names; return the commit that is then found."""
    git(repository.top, *shlex.split(remedy(repository, name))[1:])
    return resolve(repository, name).commit


def test_steps_back_deepen(upstream: Path, clone: Repository) -> None:
    assert remedy(clone, "HEAD~3") == "git fetch --deepen=3 origin"
    assert follow(clone, "HEAD~3") == git(upstream, "rev-parse", "feature~3")


def test_steps_back_of_a_detached_head_deepen(upstream: Path, clone: Repository) -> None:
    git(clone.top, "checkout", "--quiet", "--detach")
    git(clone.top, "branch", "--quiet", "-D", "feature")
    git(clone.top, "update-ref", "-d", "refs/remotes/origin/feature")
    git(clone.top, "config", "remote.origin.fetch", "+refs/heads/main:refs/remotes/origin/main")
    assert follow(clone, "HEAD^^") == git(upstream, "rev-parse", "feature~2")


def test_a_full_hash_is_fetched_alone(upstream: Path, clone: Repository) -> None:
    full = git(upstream, "rev-parse", "main~2")
    assert remedy(clone, full) == f"git fetch --depth=1 origin {full}"
    assert follow(clone, full) == full


def test_a_short_hash_needs_the_whole_history(upstream: Path, clone: Repository) -> None:
    full = git(upstream, "rev-parse", "feature~2")
    assert remedy(clone, full[:10]) == "git fetch --unshallow origin"
    assert follow(clone, full[:10]) == full


@pytest.mark.parametrize("name", ["main", "origin/main"])
def test_a_branch_is_fetched_to_where_it_is_looked_for(
    upstream: Path, clone: Repository, name: str
) -> None:
    line = "git fetch --depth=1 origin main:refs/remotes/origin/main"
    assert remedy(clone, name) == line
    assert follow(clone, name) == git(upstream, "rev-parse", "main")


def test_steps_back_of_an_unknown_branch_are_fetched_with_it(
    upstream: Path, clone: Repository
) -> None:
    assert follow(clone, "origin/main~2") == git(upstream, "rev-parse", "main~2")


def test_a_tag_has_a_line_of_its_own(upstream: Path, clone: Repository) -> None:
    with pytest.raises(RevisionError) as error:
        resolve(clone, "v1")
    line = str(error.value).partition("(a tag: ")[2].removesuffix(")")
    git(clone.top, *shlex.split(line)[1:])
    assert resolve(clone, "v1").commit == git(upstream, "rev-parse", "v1")


def test_a_merge_base_needs_both_histories(upstream: Path, clone: Repository) -> None:
    fork = git(upstream, "merge-base", "main", "feature")
    assert follow(clone, "merge-base:origin/main") == fork


def test_a_merge_base_with_a_known_branch_needs_the_rest(upstream: Path, clone: Repository) -> None:
    git(clone.top, "fetch", "--quiet", "--depth=1", "origin", "main:refs/remotes/origin/main")
    assert remedy(clone, "merge-base:main") == "git fetch --unshallow origin"
    fork = git(upstream, "merge-base", "main", "feature")
    assert follow(clone, "merge-base:main") == fork


def test_the_only_remote_is_named_whatever_it_is_called(clone: Repository) -> None:
    git(clone.top, "remote", "rename", "origin", "mirror")
    assert remedy(clone, "HEAD~2") == "git fetch --deepen=2 mirror"


def test_without_a_remote_the_message_says_so(clone: Repository) -> None:
    git(clone.top, "remote", "remove", "origin")
    with pytest.raises(RevisionError, match="no remote to fetch from"):
        resolve(clone, "HEAD~2")
