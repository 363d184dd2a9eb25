"""A repository of its own for every test, or for the tests of a module that read one session."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from commit_projects import FILES, CommitProject

if os.name == "nt" or shutil.which("git") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def project(tmp_path: Path) -> CommitProject:
    """A repository with the toy application and one perf test, committed as ``the first one``."""
    made = CommitProject(tmp_path / "toys", tmp_path / "home")
    made.commit("the first one", FILES)
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> CommitProject:
    """As ``project``, for the tests of one module together."""
    folder = tmp_path_factory.mktemp("shared")
    made = CommitProject(folder / "toys", folder / "home")
    made.commit("the first one", FILES)
    return made
