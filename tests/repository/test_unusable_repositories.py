"""Damaged, bare or hanging repositories are reported with a remedy, not as missing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from damaged_repositories import DAMAGES, hang
from git_projects import git, make

from pytest_llmperf.repository import command
from pytest_llmperf.repository.git import GitError, Repository
from pytest_llmperf.repository.revisions import resolve
from pytest_llmperf.repository.state import read_provenance


@pytest.mark.parametrize("name", DAMAGES)
def test_nothing_is_known_of_a_damaged_repository_but_why(project: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    damage(project)
    provenance = read_provenance(project)
    assert provenance[:3] == (None, False, None)
    assert re.search(words, provenance.problem), provenance.problem
    assert "\n" not in provenance.problem


def test_a_damaged_repository_is_not_taken_for_the_one_around_it(project: Path) -> None:
    inner = make(project / "inner")
    (inner / "sub").mkdir()
    (inner / ".git" / "HEAD").unlink()
    for folder in (inner, inner / "sub"):
        with pytest.raises(GitError, match=r"inner/\.git is damaged"):
            Repository.around(folder)


def test_git_that_gives_no_answer_is_ended_and_not_asked_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(project)
    monkeypatch.setattr(command, "QUERY_SECONDS", 0.5)
    problem = (
        "git rev-parse in .* did not answer within 0.5 s and was killed; .*run git status there"
    )
    assert re.fullmatch(problem, read_provenance(project).problem)
    monkeypatch.setattr(command, "QUERY_SECONDS", 600.0)
    assert re.fullmatch(problem, read_provenance(project).problem)


def test_git_that_stops_answering_while_it_is_read_is_ended(
    project: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = repository.files("HEAD")["code.py"]
    file = project / ".git" / "objects" / blob[:2] / blob[2:]
    file.unlink()
    os.mkfifo(file)
    monkeypatch.setattr(command, "WORK_SECONDS", 0.5)
    with pytest.raises(GitError, match="can't be read"):
        list(repository.blobs([blob]))


@pytest.mark.parametrize("damaged", [False, True])
def test_without_git_only_a_folder_with_a_repository_has_a_problem(
    project: Path, tmp_path: Path, damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damaged:
        (project / ".git" / "HEAD").unlink()
    monkeypatch.setenv("PATH", "")
    assert read_provenance(tmp_path).problem == ""
    assert read_provenance(project).problem.startswith("git is not installed, or not on PATH")


def test_an_older_commit_that_is_gone_is_damage_and_no_separate_history(
    project: Path, repository: Repository
) -> None:
    first = git(project, "rev-parse", "HEAD~1")
    git(project, "branch", "old", "HEAD~1")
    git(project, "switch", "--quiet", "--orphan", "other")
    git(project, "commit", "--quiet", "--allow-empty", "-m", "another root")
    assert repository.merge_base("main", "other") is None
    (project / ".git" / "objects" / first[:2] / first[2:]).unlink()
    with pytest.raises(GitError, match=r"git merge-base failed .*git fsck"):
        repository.merge_base("main", "other")
    with pytest.raises(GitError, match=r"refs/heads/old .* names a commit that is missing"):
        resolve(repository, "old")
