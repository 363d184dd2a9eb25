"""A folder of a commit written from git's objects, without a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
from commit_projects import snapshot
from git_projects import commit, git, write

from pytest_llmperf.repository.checkout import export
from pytest_llmperf.repository.git import GitError, Repository


def test_the_folders_files_are_written_at_their_places(
    project: Path, repository: Repository, tmp_path: Path
) -> None:
    raw = bytes(range(256))
    commit(project, **{"base/m 1/a.json": "{}", "base/m 1/b.bin": raw, "base2/c": "c"})
    git(project, "rm", "--quiet", "-r", "base")
    before = snapshot(project)
    written = export(repository, "HEAD", "base", tmp_path / "out")
    assert sorted(written) == [tmp_path / "out/m 1/a.json", tmp_path / "out/m 1/b.bin"]
    assert (tmp_path / "out" / "m 1" / "b.bin").read_bytes() == raw
    assert not (tmp_path / "out" / "c").exists()
    assert snapshot(project) == before


def test_a_folder_that_is_not_in_the_commit_is_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    assert export(repository, "HEAD", "nothing", tmp_path / "out") == []


def test_the_whole_commit_is_the_folder_without_a_name(
    repository: Repository, tmp_path: Path
) -> None:
    assert len(export(repository, "HEAD~1", "", tmp_path / "out")) == 2
    assert (tmp_path / "out" / "code.py").read_text() == "x = 1\n"


def test_a_place_that_cannot_be_written_is_named(repository: Repository, tmp_path: Path) -> None:
    write(tmp_path / "out", "a file")
    with pytest.raises(GitError, match=r"can't write code\.py of HEAD to .*out"):
        export(repository, "HEAD", "", tmp_path / "out")
