"""Submodules of a checkout come from the user's own clone, or stay empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from commit_projects import repository_at, snapshot
from git_projects import commit, git, make

from pytest_llmperf.repository.checkout import check_out

ALLOWED = ("-c", "protocol.file.allow=always")


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A project with a submodule in a folder; the submodule has a submodule itself."""
    inner = make(tmp_path / "inner")
    commit(inner, inner__txt="inner 1\n")
    library = make(tmp_path / "library")
    git(library, *ALLOWED, "submodule", "--quiet", "add", "--name", "in", str(inner), "inner")
    commit(library, library__txt="library 1\n")
    root = make(tmp_path / "project")
    git(root, *ALLOWED, "submodule", "--quiet", "add", "--name", "a/lib", str(library), "dep/lib")
    git(root, *ALLOWED, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(root, "the first one")
    commit(library, library__txt="library 2\n")
    git(root / "dep" / "lib", "pull", "--quiet", "origin", "main")
    commit(root, "with a newer library")
    return root


def test_they_are_filled_as_the_commit_says(nested: Path, cache: Path) -> None:
    repository = repository_at(nested)
    base = repository.commit("HEAD~1")
    assert base is not None
    before = snapshot(nested)
    with check_out(repository, base, cache) as checkout:
        assert (checkout.top / "dep" / "lib" / "library.txt").read_text() == "library 1\n"
        assert (checkout.top / "dep" / "lib" / "inner" / "inner.txt").read_text() == "inner 1\n"
        assert git(checkout.top, "status", "--porcelain") == ""
        assert checkout.empty_submodules == ()
    assert snapshot(nested) == before


def test_those_that_were_never_fetched_stay_empty(
    nested: Path, cache: Path, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", str(nested), "clone")
    repository = repository_at(tmp_path / "clone")
    head = repository.head()
    assert head is not None
    with check_out(repository, head, cache) as checkout:
        assert checkout.empty_submodules == ("dep/lib",)
        assert list((checkout.top / "dep" / "lib").iterdir()) == []


def test_those_of_a_linked_work_tree_are_found(nested: Path, cache: Path, tmp_path: Path) -> None:
    git(nested, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    repository = repository_at(tmp_path / "linked")
    head = repository.head()
    assert head is not None
    with check_out(repository, head, cache) as checkout:
        assert (checkout.top / "dep" / "lib" / "library.txt").read_text() == "library 2\n"


def test_a_name_that_leads_out_is_not_followed(nested: Path, cache: Path) -> None:
    # The .gitmodules file of another commit is not trusted.
    text = (nested / ".gitmodules").read_text().replace("a/lib", "../../../library/.git")
    head = commit(nested, __gitmodules=text)
    with check_out(repository_at(nested), head, cache) as checkout:
        assert checkout.empty_submodules == ("dep/lib",)
