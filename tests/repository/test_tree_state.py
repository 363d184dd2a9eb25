"""Names for the exact content of a work tree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commit_projects import repository_at, snapshot
from git_projects import commit, git, make, write

from pytest_llmperf.repository import state
from pytest_llmperf.repository.git import Repository
from pytest_llmperf.repository.state import below_top, content_digest, state_of, work_tree_digest


def test_a_clean_tree_is_its_commit(project: Path, repository: Repository) -> None:
    assert state_of(repository) == git(project, "rev-parse", "HEAD")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a changed file": lambda root: write(root / "code.py", "x = 3\n"),
    "another change": lambda root: write(root / "code.py", "x = 4\n"),
    "a deleted file": lambda root: (root / "code.py").unlink(),
    "an untracked file": lambda root: write(root / "new.py", ""),
    "another untracked file": lambda root: write(root / "other.py", ""),
    "untracked content": lambda root: write(root / "new.py", "y"),
    "an untracked program": lambda root: write(root / "new.py", "y").chmod(0o755),
    "an untracked folder": lambda root: write(root / "new" / "a.py", "1"),
    "its content": lambda root: write(root / "new" / "a.py", "2"),
    "a name with a line break": lambda root: write(root / "new\n?? it.py", ""),
    "a link": lambda root: (root / "new.py").symlink_to("code.py"),
    "a program": lambda root: (root / "code.py").chmod(0o755),
    "a repository inside": lambda root: commit(make(root / "inner"), "one"),
}


def test_every_change_is_another_state(project: Path, repository: Repository) -> None:
    seen = {state_of(repository)}
    for change in CHANGES.values():
        change(project)
        seen.add(state_of(repository))
        git(project, "clean", "-ffdxq")
        git(project, "reset", "--quiet", "--hard")
    assert len(seen) == 1 + len(CHANGES)


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_the_same_change_is_the_same_state(
    project: Path, repository: Repository, change: Callable[[Path], object]
) -> None:
    change(project)
    first = state_of(repository)
    assert first.startswith(git(project, "rev-parse", "HEAD") + "+")
    for path in project.rglob("*.py"):
        os.utime(path, (5, 5), follow_symlinks=False)
    assert state_of(repository) == first


def test_staging_changes_nothing(project: Path, repository: Repository) -> None:
    write(project / "code.py", "x = 3\n")
    write(project / "new.py", "y\n")
    (project / "kept.txt").unlink()
    before = state_of(repository)
    git(project, "add", "--all")
    assert state_of(repository) == before
    git(project, "rm", "--quiet", "--cached", "-f", "code.py")
    assert state_of(repository) == before


def test_ignored_files_do_not_count(project: Path, repository: Repository) -> None:
    new = commit(project, __gitignore="*.gguf\n")
    write(project / "model.gguf", "weights")
    assert state_of(repository) == new


def test_excluded_folders_do_not_count(project: Path, repository: Repository) -> None:
    new = commit(project, "with baselines", **{"perf_baselines/a.json": "{}"})
    (project / "perf_baselines" / "a.json").unlink()
    write(project / "perf_baselines" / "m" / "b.json", "{}")
    assert state_of(repository, ["perf_baselines"]) == new
    assert state_of(repository, ["perf_baselines/"]) == new
    assert state_of(repository) != new
    write(project / "perf_baselines2", "no folder of baselines")
    assert state_of(repository, ["perf_baselines"]) != new


def test_large_untracked_files_are_not_read(
    project: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "LARGE", 4)
    large = write(project / "large.bin", "12345")
    os.utime(large, ns=(1, 1))
    first = state_of(repository)
    write(large, "abcde")
    os.utime(large, ns=(1, 1))
    assert state_of(repository) == first
    os.utime(large, ns=(1, 2))
    assert state_of(repository) != first


def test_a_tree_without_commits_has_a_state(tmp_path: Path) -> None:
    root = make(tmp_path / "unborn")
    repository = repository_at(root)
    assert state_of(repository) == "no-commit"
    write(root / "a", "")
    assert state_of(repository).startswith("no-commit+")


def test_conflicts_have_a_state(project: Path, repository: Repository) -> None:
    git(project, "switch", "--quiet", "-c", "side", "HEAD~1")
    commit(project, code__py="x = 5\n")
    repository.run("merge", "main", check=False)
    assert "+" in state_of(repository)


def test_asking_for_the_state_changes_no_byte(project: Path, repository: Repository) -> None:
    write(project / "code.py", "x = 3\n")
    os.utime(project / "kept.txt", (1, 1))
    before = snapshot(project)
    state_of(repository)
    assert snapshot(project) == before


def test_commits_with_the_same_files_have_the_same_content(
    project: Path, repository: Repository
) -> None:
    head = git(project, "rev-parse", "HEAD")
    recorded = commit(project, "a session", **{"perf_baselines/m/one__json": "{}"})
    assert content_digest(repository, recorded) != content_digest(repository, head)
    without = ["perf_baselines"]
    assert content_digest(repository, recorded, without) == content_digest(
        repository, head, without
    )
    assert work_tree_digest(repository, without) == content_digest(repository, head, without)
    # A name with the same beginning is not left out.
    beside = commit(project, "beside it", perf_baselines_too__py="")
    assert content_digest(repository, beside, without) != content_digest(repository, head, without)
    assert content_digest(repository, f"{head}^", without) != content_digest(
        repository, head, without
    )


def test_a_change_of_the_work_tree_is_another_content(
    project: Path, repository: Repository
) -> None:
    seen = {work_tree_digest(repository)}
    for change in (CHANGES["a program"], CHANGES["an untracked file"], CHANGES["a link"]):
        git(project, "clean", "--quiet", "-fd")
        change(project)
        seen.add(work_tree_digest(repository))
    assert len(seen) == 4


def test_what_lies_outside_has_no_place_below_the_top(
    project: Path, repository: Repository
) -> None:
    assert below_top(repository, project / "perf_baselines" / "m") == "perf_baselines/m"
    assert below_top(repository, project) is None
    assert below_top(repository, project.parent) is None
