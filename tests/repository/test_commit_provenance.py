"""Which commit was measured, according to real git."""

from __future__ import annotations

from pathlib import Path

import pytest
from commit_projects import git
from git_projects import commit, make

from pytest_llmperf.repository.state import read_provenance


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = make(tmp_path / "a repository")
    commit(root, **{"code.py": "x = 1\n", "perf_baselines/old.json": "{}\n"})
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
    assert read_provenance(make(tmp_path / "empty")) == (None, False, "main", "")


def test_no_repository_is_no_provenance(tmp_path: Path) -> None:
    below = tmp_path / "plain"
    below.mkdir()
    assert read_provenance(below) == (None, False, None, "")
