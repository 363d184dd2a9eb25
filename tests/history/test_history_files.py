"""Which records count: all that the branch's history ever held, and uncommitted ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commit_projects import repository_at
from history_projects import FOLDER, KEY, Project, path_of, record_of

from pytest_llmperf.baselines.record import to_text
from pytest_llmperf.history.record_files import RecordFiles, find_record_files, states_to_compare
from pytest_llmperf.history.sessions import read_commits
from pytest_llmperf.repository.git import GitError


def files_of(
    project: Project, folder: str = FOLDER, machine: str | None = None, budget: int = 1 << 30
) -> RecordFiles:
    repository = repository_at(project.top)
    commits = read_commits(repository).hashes
    return find_record_files(repository, folder, commits, machine, budget)


def blob_at(project: Project, commit: str, path: str) -> str:
    return project.git("rev-parse", f"{commit}:{path}")


def test_records_of_every_commit_are_found(project: Project) -> None:
    project.commit({"app.py": "1"})
    paths = [project.record(number) for number in range(3)]
    files = files_of(project)
    assert files.blobs == {path: blob_at(project, "HEAD", path) for path in paths}
    assert files.uncommitted == []


def test_a_pruned_record_is_found(project: Project) -> None:
    project.commit({"app.py": "1"})
    first, second = project.record(1), project.record(2)
    project.commit({first: None})
    assert files_of(project).blobs == {
        first: blob_at(project, "HEAD~1", first),
        second: blob_at(project, "HEAD", second),
    }


def test_a_record_that_a_merge_dropped_is_found(project: Project) -> None:
    project.commit({"app.py": "1"})
    project.git("checkout", "-q", "-b", "side")
    path = project.record(1)
    project.git("checkout", "-q", "main")
    project.commit({"app.py": "2"})
    project.git("merge", "-q", "-s", "ours", "side")
    assert list(files_of(project).blobs) == [path]


def test_a_record_of_another_branch_does_not_count(project: Project) -> None:
    project.commit({"app.py": "1"})
    project.git("checkout", "-q", "-b", "side")
    project.record(1)
    project.git("checkout", "-q", "main")
    assert files_of(project).blobs == {}


def test_a_changed_record_counts_as_it_is_now(project: Project) -> None:
    project.commit({"app.py": "1"})
    path = project.record(1)
    project.commit({path: "{}"})
    assert files_of(project).blobs == {path: blob_at(project, "HEAD", path)}


@pytest.mark.parametrize("budget", [1 << 30, 30_000, 0])
def test_records_that_a_pruned_folder_once_held_are_found(project: Project, budget: int) -> None:
    project.grow([85.0] * 60, prune=20)
    files = files_of(project, budget=budget)
    assert len(files.blobs) == 60
    assert files.states == 60


def test_with_little_to_spend_the_states_before_a_removal_are_compared(project: Project) -> None:
    project.grow([85.0] * 40)
    gone = project.git("ls-files", FOLDER).splitlines()[:30]
    project.commit(dict.fromkeys(gone, None))
    project.commit({"app.py": "2"})
    project.record(41)
    files = files_of(project, budget=0)
    assert files.compared == 2
    assert files.states == 42
    assert len(files.blobs) == 41
    assert files.gap > 0


def test_uncommitted_records_are_named(project: Project) -> None:
    project.commit({"app.py": "1", ".gitignore": f"{FOLDER}/*/ignored*\n"})
    changed, staged_and_gone = project.record(1), project.record(2)
    folder = project.top / FOLDER / KEY
    (project.top / changed).write_text("{}")
    (project.top / staged_and_gone).unlink()
    for name in ("untracked.json", "ignored.json", "staged.json"):
        (folder / name).write_text("{}")
    project.git("add", f"{FOLDER}/{KEY}/staged.json")
    files = files_of(project)
    assert sorted(files.uncommitted) == sorted(
        [changed, *(f"{FOLDER}/{KEY}/{name}.json" for name in ("untracked", "ignored", "staged"))]
    )
    # It was deleted in the work tree only, so the history still has it.
    assert list(files.blobs) == [staged_and_gone]


def test_a_record_that_was_only_touched_is_not_uncommitted(project: Project) -> None:
    project.commit({"app.py": "1"})
    path = project.record(1)
    os.utime(project.top / path, (1, 1))
    assert files_of(project).uncommitted == []


def test_before_the_first_commit_the_work_tree_counts(project: Project) -> None:
    record = record_of(1, None)
    path = project.top / path_of(record)
    path.parent.mkdir(parents=True)
    path.write_text(to_text(record))
    assert files_of(project).uncommitted == [path_of(record)]


def test_only_records_and_decisions_are_files_of_interest(project: Project) -> None:
    inside = {
        f"{FOLDER}/README.json": "{}",
        f"{FOLDER}/{KEY}/.hidden.json": "{}",
        f"{FOLDER}/{KEY}/notes.txt": "",
        f"{FOLDER}/{KEY}/a.json": "1",
        f"{FOLDER}/{KEY}/decisions/d.json": "2",
        f"{FOLDER}/{KEY}/calibrations/c.json": "3",
        f"elsewhere/{KEY}/b.json": "{}",
    }
    project.commit(inside)
    files = files_of(project)
    assert list(files.blobs) == [f"{FOLDER}/{KEY}/a.json"]
    assert list(files.decisions) == [f"{FOLDER}/{KEY}/decisions/d.json"]


def test_one_machine_can_be_asked_for(project: Project) -> None:
    project.commit({f"{FOLDER}/a/1.json": "1", f"{FOLDER}/b/2.json": "2"})
    project.commit({f"{FOLDER}/a/1.json": None, f"{FOLDER}/b/2.json": None})
    assert list(files_of(project, machine="b").blobs) == [f"{FOLDER}/b/2.json"]


@pytest.mark.parametrize(
    "name", ["a b.json", "ünï.json", "line\nbreak.json", "-x.json", "tab\t.json", '"q".json']
)
def test_odd_file_names_are_found(project: Project, name: str) -> None:
    path = f"{FOLDER}/{KEY}/{name}"
    project.commit({path: "{}"})
    assert list(files_of(project).blobs) == [path]
    project.commit({path: None})
    assert list(files_of(project).blobs) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_no_utf_8_is_found(project: Project) -> None:
    path = os.fsdecode(f"{FOLDER}/{KEY}/".encode() + b"\xff.json")
    project.commit({path: "{}"})
    project.commit({path: None})
    assert list(files_of(project).blobs) == [path]


@pytest.mark.parametrize("folder", ["", "deep/er folder", "-dash", ":(top)x"])
def test_the_folder_may_be_anywhere(project: Project, folder: str) -> None:
    path = f"{folder}/{KEY}/a.json" if folder else f"{KEY}/a.json"
    project.commit({path: "{}"})
    project.commit({path: None})
    assert list(files_of(project, folder).blobs) == [path]


def test_a_folder_with_a_line_break_is_refused(project: Project) -> None:
    with pytest.raises(GitError, match="line break"):
        files_of(project, "a\nb")


def test_a_sha256_repository_is_read(tmp_path: Path) -> None:
    project = Project(tmp_path / "other", "--object-format=sha256")
    project.commit({f"{FOLDER}/{KEY}/a.json": "1"})
    project.commit({f"{FOLDER}/{KEY}/a.json": None, f"{FOLDER}/{KEY}/b.json": "2"})
    assert sorted(files_of(project).blobs) == [f"{FOLDER}/{KEY}/{n}.json" for n in "ab"]


def test_a_file_where_the_folder_was_later_is_no_folder(project: Project) -> None:
    project.commit({FOLDER: "a file\n"})
    project.commit({FOLDER: None})
    project.commit({f"{FOLDER}/{KEY}/a.json": "{}"})
    assert list(files_of(project).blobs) == [f"{FOLDER}/{KEY}/a.json"]


@pytest.mark.parametrize(
    ("lengths", "budget", "chosen"),
    [
        ([], 100, []),
        ([10, 20, 30], 60, [0, 1, 2]),
        # The newest state, and the state before a removal.
        ([10, 20, 30, 5, 15], 45, [2, 4]),
        ([10, 20, 30, 30, 40], 70, [2, 4]),
        # Evenly spaced other states, as far as the budget goes.
        ([10, 20, 30, 40, 50], 100, [0, 2, 4]),
    ],
)
def test_states_are_chosen_by_their_lengths(
    lengths: list[int], budget: int, chosen: list[int]
) -> None:
    assert states_to_compare(lengths, budget) == chosen
