"""Records that lie in the work tree as git has them are read there; all others come from git."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from history_projects import FOLDER, Project

from pytest_llmperf.history import work_tree
from pytest_llmperf.history.archive import read_archive
from pytest_llmperf.history.objects import ObjectReader
from pytest_llmperf.history.work_tree import checked_out
from pytest_llmperf.repository.git import Repository


def around(project: Project) -> Repository:
    found = Repository.around(project.top)
    assert found is not None
    return found


def levels(project: Project) -> list[list[float]]:
    archive = read_archive(around(project), FOLDER)
    return [archive.records.values[row].tolist() for row in archive.order]


@pytest.fixture
def grown(project: Project) -> Project:
    """A project with six sessions."""
    project.grow([80.0 + number for number in range(6)])
    return project


def a_record(project: Project) -> tuple[str, str]:
    """Return the path and the blob of one record."""
    path = project.git("ls-files", FOLDER).splitlines()[0]
    return path, project.git("rev-parse", f"HEAD:{path}")


def test_git_unpacks_nothing_that_lies_in_the_work_tree(
    grown: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = levels(grown)

    def read(*_: object) -> None:
        raise AssertionError("git is asked")

    monkeypatch.setattr(ObjectReader, "read", read)
    assert levels(grown) == expected
    assert len(expected) == 6


def test_what_git_has_counts_where_a_file_was_changed_after_git_looked(
    grown: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = levels(grown)
    path, blob = a_record(grown)
    file = grown.top / path
    file.write_text(file.read_text().replace("8", "9"))
    assert checked_out(str(grown.top), path, blob) is None
    # As if it had been changed a moment later.
    monkeypatch.setattr("pytest_llmperf.history.record_files._uncommitted", lambda *_: [])
    assert levels(grown) == expected


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_a_file_that_is_the_blob_is_read(tmp_path: Path, form: str) -> None:
    made = Project(tmp_path / form, f"--object-format={form}")
    made.grow([80.0])
    path, blob = a_record(made)
    assert checked_out(str(made.top), path, blob) == (made.top / path).read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("what", ["nothing", "folder", "pipe", "link to nothing", "too long"])
def test_whatever_lies_in_a_records_place_is_left_alone(
    grown: Project, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blob = a_record(grown)
    file = grown.top / path
    if what == "too long":
        monkeypatch.setattr(work_tree, "MAX_BYTES", 10)
    else:
        file.unlink()
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "link to nothing":
        file.symlink_to("gone.json")
    assert checked_out(str(grown.top), path, blob) is None
