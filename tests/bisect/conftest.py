"""Fixtures for searches in a repository of the test, isolated from the user's git settings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bisect_command import FILES, Command
from commit_projects import isolate_git
from scripted_histories import git

from pytest_llmperf.bisect.evidence import BisectEvidence


@pytest.fixture(autouse=True)
def isolated_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate git from the user's settings and from a hook that runs these tests."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    isolate_git(monkeypatch)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder in which a test makes its repository."""
    return tmp_path / "a project"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "the cache"


@pytest.fixture
def evidence(cache: Path) -> Iterator[BisectEvidence]:
    with BisectEvidence(cache, ["a search"]) as held:
        yield held


@pytest.fixture
def command(root: Path, tmp_path: Path) -> Command:
    """Return the command in a repository with one commit of the small application."""
    root.mkdir()
    git(root, "init", "--quiet", "-b", "main")
    project = Command(root, tmp_path / "home")
    project.home.mkdir()
    for name, content in FILES.items():
        project.write(name, content)
    project.commit("the first one")
    return project
