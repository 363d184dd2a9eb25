"""Which commit was measured, according to real git."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_llmperf.repository.state import read_provenance

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture(autouse=True)
def clean_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shield git from the user's settings, and from the variables of a hook that runs tests."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(cwd: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "a repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "code.py").write_text("x = 1\n")
    (root / "perf_baselines").mkdir()
    (root / "perf_baselines" / "old.json").write_text("{}\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_a_clean_tree_is_its_commit_and_branch(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert read_provenance(repository) == (head, False, "main", "")


def test_a_changed_tracked_file_is_dirty(repository: Path) -> None:
    (repository / "code.py").write_text("x = 2\n")
    assert read_provenance(repository).dirty


def test_a_staged_change_is_dirty(repository: Path) -> None:
    (repository / "new.py").write_text("")
    git(repository, "add", "new.py")
    assert read_provenance(repository).dirty


def test_a_change_above_the_current_folder_is_dirty(repository: Path) -> None:
    (repository / "code.py").write_text("x = 2\n")
    below = repository / "sub"
    below.mkdir()
    assert read_provenance(below).dirty


def test_untracked_files_are_not_dirty(repository: Path) -> None:
    (repository / "notes.txt").write_text("")
    assert not read_provenance(repository).dirty


def test_changes_among_the_baselines_are_not_dirty(repository: Path) -> None:
    (repository / "perf_baselines" / "old.json").unlink()
    assert not read_provenance(repository, repository / "perf_baselines").dirty
    assert read_provenance(repository).dirty


def test_a_change_beside_the_baselines_is_still_dirty(repository: Path) -> None:
    (repository / "perf_baselines" / "old.json").unlink()
    (repository / "code.py").write_text("x = 2\n")
    assert read_provenance(repository, repository / "perf_baselines").dirty


def test_baselines_outside_the_repository_change_nothing(repository: Path, tmp_path: Path) -> None:
    (repository / "code.py").write_text("x = 2\n")
    assert read_provenance(repository, tmp_path / "elsewhere").dirty


def test_a_detached_head_has_a_commit_and_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    head = git(repository, "rev-parse", "HEAD")
    assert read_provenance(repository) == (head, False, None, "")


def test_a_repository_without_commits_has_a_branch_and_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    assert read_provenance(tmp_path) == (None, False, "main", "")


def test_no_repository_is_no_provenance(tmp_path: Path) -> None:
    below = tmp_path / "plain"
    below.mkdir()
    assert read_provenance(below) == (None, False, None, "")
