"""A repository of its own for every test, or for the tests of a module that read one session."""

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


@pytest.fixture(scope="module")
def recorded(shared: CommitProject) -> CommitProject:
    """One session recorded at the first commit, tag ``fast``; nothing of it is committed."""
    shared.git("tag", "fast")
    # Enough processes to be called by, and the median of a few.
    found = shared.perf("--llmperf-record", "--llmperf-set=perf.processes=3")
    assert found.ret == 0, found.out
    return shared


@pytest.fixture
def stored(recorded: CommitProject) -> Iterator[CommitProject]:
    """As ``recorded``; whatever a test makes of it is taken back."""
    kept = {path: path.read_text() for path in recorded.baselines()}
    yield recorded
    recorded.git("checkout", "--quiet", "--force", "main")
    recorded.git("reset", "--quiet", "--hard", "fast")
    recorded.git("clean", "--quiet", "-fdx", "--exclude=__pycache__")
    for path, text in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
