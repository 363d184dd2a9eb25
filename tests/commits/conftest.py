"""A repository for each test, or one for the tests of a module that share a session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commit_projects import FILES, CommitProject

if os.name == "nt" or shutil.which("git") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def project(tmp_path: Path) -> CommitProject:
    """A repository with the toy application and one perf test, committed as ``the first one``."""
    repository = CommitProject(tmp_path / "toys", tmp_path / "home")
    repository.commit("the first one", FILES)
    return repository


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> CommitProject:
    """As ``project``, but shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("shared")
    repository = CommitProject(folder / "toys", folder / "home")
    repository.commit("the first one", FILES)
    return repository


@pytest.fixture(scope="module")
def recorded(shared: CommitProject) -> CommitProject:
    """One session recorded at the first commit, tag ``fast``; nothing of it is committed."""
    shared.git("tag", "fast")
    # Just enough processes for a verdict by stored sessions.
    session = shared.perf("--llmperf-record", "--llmperf-set=perf.processes=3")
    assert session.ret == 0, session.out
    return shared


@pytest.fixture
def stored(recorded: CommitProject) -> Iterator[CommitProject]:
    """As ``recorded``, restored after each test."""
    texts = {path: path.read_text() for path in recorded.baselines()}
    yield recorded
    recorded.git("checkout", "--quiet", "--force", "main")
    recorded.git("reset", "--quiet", "--hard", "fast")
    recorded.git("clean", "--quiet", "-fdx", "--exclude=__pycache__")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
