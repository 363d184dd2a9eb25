"""Which records are read, from git and the work tree, and how the others are reported."""

from __future__ import annotations

import os

import pytest
from commit_projects import repository_at
from history_projects import FOLDER, KEY, Project, path_of, record_of

from pytest_llmperf.baselines.record import to_text
from pytest_llmperf.history import record_reader
from pytest_llmperf.history.sessions import RecordedSessions, read_sessions
from pytest_llmperf.repository.git import GitError


def recorded(project: Project) -> RecordedSessions:
    return read_sessions(repository_at(project.top), FOLDER)


@pytest.fixture
def grown(project: Project) -> Project:
    """A project with five sessions."""
    project.grow([80.0 + number for number in range(5)])
    return project


def test_a_missing_blob_is_named_and_the_others_are_read(grown: Project) -> None:
    path = grown.git("ls-files", FOLDER).splitlines()[3]
    blob = grown.git("rev-parse", f"HEAD:{path}")
    for pack in (grown.top / ".git/objects/pack").glob("*.pack"):
        content = pack.read_bytes()
        for part in pack.parent.glob(f"{pack.stem}.*"):
            part.chmod(0o600)
            part.unlink()
        grown.git("unpack-objects", "-q", stdin=content)
    loose = grown.top / ".git/objects" / blob[:2] / blob[2:]
    loose.chmod(0o600)
    loose.unlink()
    records = recorded(grown)
    assert len(records.sessions) == 4
    assert list(records.unreadable) == [path]
    assert records.unreadable[path].startswith("its content is not in this clone, or far too long")
    assert "git fetch --refetch" in records.unreadable[path].split("\n")[1]


def test_what_is_far_too_long_for_a_record_is_named(
    grown: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed, untracked = (f"{FOLDER}/{KEY}/{name}.json" for name in ("committed", "untracked"))
    grown.commit({committed: " " * 20_000})
    (grown.top / untracked).write_text(" " * 20_000)
    monkeypatch.setattr(record_reader, "MAX_BYTES", 10_000)
    records = recorded(grown)
    assert len(records.sessions) == 5
    assert list(records.unreadable) == [committed, untracked]


def test_uncommitted_records_are_read_from_the_work_tree(grown: Project) -> None:
    record = record_of(40, grown.git("rev-parse", "HEAD"), 300.0)
    (grown.top / path_of(record)).write_text(to_text(record))
    last = recorded(grown).sessions[-1]
    assert last.path == path_of(record)


def test_a_record_that_was_changed_counts_as_the_work_tree_has_it(grown: Project) -> None:
    first = recorded(grown).sessions[0]
    file = grown.top / first.path
    file.write_text(to_text(record_of(0, first.commit, 60.0)))
    assert recorded(grown).sessions[0].levels.values[1] == pytest.approx(60.0, rel=0.01)


def test_a_renamed_record_is_one_session(grown: Project) -> None:
    path = grown.git("ls-files", FOLDER).splitlines()[2]
    grown.git("mv", path, f"{FOLDER}/{KEY}/renamed.json")
    grown.commit({})
    records = recorded(grown)
    assert len(records.sessions) == 5
    assert records.sessions[2].path == f"{FOLDER}/{KEY}/renamed.json"


@pytest.mark.skipif(os.name == "nt", reason="needs a pipe in the file system")
def test_what_is_no_file_is_named(grown: Project) -> None:
    folder = grown.top / FOLDER / KEY
    (folder / "link.json").symlink_to("nowhere")
    (folder / "folder.json").mkdir()
    (folder / "folder.json" / "inside").touch()
    os.mkfifo(folder / "pipe.json")
    (folder / "device.json").symlink_to("/dev/zero")
    records = recorded(grown)
    assert len(records.sessions) == 5
    # Git lists no pipes.
    device = f"{FOLDER}/{KEY}/device.json"
    assert records.unreadable == {device: "not a regular file, or far too long\nremove it"}


@pytest.mark.skipif(os.name == "nt", reason="needs a pipe in the file system")
@pytest.mark.parametrize("what", ["nothing", "folder", "pipe"])
def test_what_lies_in_a_committed_records_place_does_not_matter(grown: Project, what: str) -> None:
    file = grown.top / recorded(grown).sessions[0].path
    file.unlink()
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    records = recorded(grown)
    assert len(records.sessions) == 5
    assert records.unreadable == {}


def test_a_record_in_another_machines_folder_is_named(grown: Project) -> None:
    record = record_of(40, None)
    path = grown.top / FOLDER / "other-machine" / "x.json"
    path.parent.mkdir()
    path.write_text(to_text(record))
    records = recorded(grown)
    assert records.unreadable == {
        f"{FOLDER}/other-machine/x.json": f"a record of machine {KEY} in the folder of "
        f"other-machine\nmove it into the folder {KEY}"
    }


def test_git_that_is_gone_is_an_error(grown: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = repository_at(grown.top)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(GitError, match="git"):
        read_sessions(repository, FOLDER)


def test_a_committed_record_that_was_changed_since_is_read_as_it_is_now(grown: Project) -> None:
    (path, *_) = sorted(grown.top.glob(f"{FOLDER}/{KEY}/*.json"))
    path.write_text(path.read_text().replace('"1 request', '"2 requests', 1))
    records = recorded(grown)
    assert records.unreadable == {}
    summaries = [part.summary for session in records.sessions for part in session.levels.tests]
    assert any(summary.startswith("2 requests") for summary in summaries)


def test_a_file_nobody_can_read_is_named_with_what_mends_it(grown: Project) -> None:
    path = grown.top / FOLDER / KEY / "bad.json"
    path.write_text("{")
    grown.commit({}, "Bad")
    (why,) = recorded(grown).unreadable.values()
    assert "restore the committed file: git checkout -- " in why
    assert "delete the file and record again" in why
    grown.commit({f"{FOLDER}/{KEY}/bad.json": None}, "Gone")
    (why,) = recorded(grown).unreadable.values()
    assert "it lies in earlier commits only, so there is nothing to restore" in why
