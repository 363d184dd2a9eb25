"""Names that users type for a commit, and the errors where they name none."""

from __future__ import annotations

from pathlib import Path

import pytest
from commit_projects import repository_at
from git_projects import commit, git, make

from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.revisions import RevisionError, resolve


def test_a_revision_shows_its_name_hash_and_subject(project: Path, repository: Repository) -> None:
    revision = resolve(repository, "HEAD~1")
    full = git(project, "rev-parse", "HEAD~1")
    assert (revision.name, revision.commit, revision.subject) == ("HEAD~1", full, "the first one")
    assert str(revision) == f"HEAD~1 ({full[:12]} the first one)"


def test_the_merge_base_is_the_newest_common_commit(project: Path, repository: Repository) -> None:
    fork = git(project, "rev-parse", "HEAD")
    git(project, "switch", "--quiet", "-c", "side")
    commit(project, "on the side")
    git(project, "branch", "--quiet", "--force", "main", git(project, "commit-tree", "-p", fork,
        "-m", "on main", "HEAD^{tree}"))  # fmt: skip
    revision = resolve(repository, "merge-base:main")
    assert (revision.name, revision.commit) == ("merge-base:main", fork)


def test_a_branch_that_only_the_remote_has_needs_no_remotes_name(
    project: Path, tmp_path: Path
) -> None:
    git(project, "branch", "feature", "HEAD~1")
    git(tmp_path, "clone", "--quiet", str(project), "clone")
    clone = repository_at(tmp_path / "clone")
    wanted = git(project, "rev-parse", "feature")
    assert resolve(clone, "feature").commit == wanted
    assert resolve(clone, "origin/feature").commit == wanted
    assert resolve(clone, "merge-base:feature").commit == wanted


def error_for(repository: Repository, name: str) -> str:
    with pytest.raises(RevisionError) as error:
        resolve(repository, name)
    return str(error.value)


def test_names_near_it_are_given(project: Path, repository: Repository) -> None:
    git(project, "branch", "feature/faster-cache")
    git(project, "tag", "v1.0")
    assert error_for(repository, "feature/fastercache").endswith(
        "did you mean feature/faster-cache?"
    )
    assert error_for(repository, "v1.1") == (
        f"there is no commit 'v1.1' in {repository.top}; did you mean v1.0?"
    )


def test_what_lies_before_the_first_commit_is_counted(repository: Repository) -> None:
    assert error_for(repository, "main~5").endswith(": main has 1 commit before it")


def test_an_unknown_branch_of_a_remote_comes_with_the_line_that_fetches_it(
    project: Path, repository: Repository
) -> None:
    git(project, "remote", "add", "upstream", "/nowhere")
    assert error_for(repository, "upstream/xyz").endswith(
        "if it is a branch of upstream, fetch it: git fetch upstream xyz:refs/remotes/upstream/xyz"
    )
    assert error_for(repository, "ab" * 20).endswith(
        "if it has been pushed, fetch it: git fetch upstream"
    )


def test_what_a_shell_would_run_is_quoted_in_the_line(
    project: Path, repository: Repository
) -> None:
    git(project, "remote", "add", "origin", "/nowhere")
    assert error_for(repository, "a$(rm b)").endswith(
        "git fetch origin 'a$(rm b):refs/remotes/origin/a$(rm b)'"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "an empty name is not a commit"),
        ("--help", "that can't be a revision's name"),
        ("a\nb", "that can't be a revision's name"),
        ("HEAD^{tree}", "'HEAD^{tree}' is a tree in"),
        ("HEAD:code.py", "'HEAD:code.py' is a blob in"),
        ("merge-base:", "'merge-base:' lacks a name, such as merge-base:origin/main"),
        ("merge-base:nothing", "there is no commit 'nothing' in"),
    ],
)
def test_what_can_be_no_commit_is_told_apart(repository: Repository, name: str, words: str) -> None:
    assert words in error_for(repository, name)


def test_a_repository_without_commits_says_so(tmp_path: Path) -> None:
    empty = repository_at(make(tmp_path / "empty"))
    assert error_for(empty, "HEAD~1").endswith("nothing has been committed there yet")


def test_separate_histories_share_nothing(project: Path, repository: Repository) -> None:
    git(project, "switch", "--quiet", "--orphan", "other")
    commit(project, "another root")
    assert "no commit in common: their histories" in error_for(repository, "merge-base:main")
