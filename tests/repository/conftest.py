"""A repository of two commits, out of reach of the user's own settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commit_projects import isolate_git, repository_at
from git_projects import commit, make

from pytest_llmperf.repository.git import Repository


@pytest.fixture(autouse=True)
def isolated_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shield git from the user's settings, and from the variables of a hook that runs tests."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    isolate_git(monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A work tree with two commits: ``code.py`` says 1, then 2."""
    root = make(tmp_path / "a project")
    commit(root, "the first one", code__py="x = 1\n", kept__txt="same\n")
    commit(root, "the second one", code__py="x = 2\n")
    return root


@pytest.fixture
def repository(project: Path) -> Repository:
    return repository_at(project)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "the cache"
