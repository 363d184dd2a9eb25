"""Reading thousands of records: what is remembered, the second process, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from history_projects import FOLDER, KEY, Project, path_of, record_of

from pytest_llmperf.baselines.record import to_text
from pytest_llmperf.history import cache as cache_module
from pytest_llmperf.history import helper as helper_module
from pytest_llmperf.history.archive import Archive, read_archive
from pytest_llmperf.history.cache import SessionCache
from pytest_llmperf.history.helper import Helper
from pytest_llmperf.history.worker import RecordReader
from pytest_llmperf.repository.git import GitError, Repository


def around(project: Project) -> Repository:
    repository = Repository.around(project.top)
    assert repository is not None
    return repository


def archive_of(
    project: Project, cache: SessionCache | None = None, helper: Helper | None = None
) -> Archive:
    return read_archive(around(project), FOLDER, cache=cache, helper=helper)


def values_of(archive: Archive) -> list[list[float]]:
    return [archive.records.values[row].tolist() for row in archive.order]


@pytest.fixture
def grown(project: Project) -> Project:
    """A project with thirty sessions."""
    project.grow([80.0 + number for number in range(30)])
    return project


@pytest.fixture
def cache(grown: Project, tmp_path: Path) -> SessionCache:
    return SessionCache(tmp_path / "cache" / "history", around(grown).common_dir)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the second process started for few records, and take them three by three."""
    monkeypatch.setattr(helper_module, "WORTHWHILE", 1)
    monkeypatch.setattr("pytest_llmperf.history.reading._TOGETHER", 3)


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("a record is read")

    monkeypatch.setattr(RecordReader, "read", read)


def test_what_was_read_once_is_not_read_again(
    grown: Project, cache: SessionCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = archive_of(grown, cache)
    assert len(first.sessions) == 30
    forbid_reading(monkeypatch)
    again = archive_of(grown, cache)
    assert again.sessions == first.sessions
    assert values_of(again) == values_of(first)


def test_new_records_are_read_beside_the_remembered_ones(
    grown: Project, cache: SessionCache
) -> None:
    archive_of(grown, cache)
    grown.record(31, 200.0)
    assert len(archive_of(grown, cache).sessions) == 31


def test_what_left_the_history_is_forgotten(grown: Project, cache: SessionCache) -> None:
    archive_of(grown, cache)
    grown.git("reset", "-q", "--hard", "HEAD~20")
    assert len(archive_of(grown, cache).sessions) == 20


def remembered(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache" / "history").iterdir()
    return file


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder", "older"])
def test_a_damaged_memory_is_no_memory(
    grown: Project, cache: SessionCache, tmp_path: Path, damage: str
) -> None:
    expected = values_of(archive_of(grown, cache))
    file = remembered(tmp_path)
    content = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        middle = len(content) // 2
        changed = bytes([content[middle] ^ 1])
        file.write_bytes(
            {
                "cut": content[:middle],
                "flipped": content[:middle] + changed + content[middle + 1 :],
                "empty": b"",
                "older": content.replace(b"llmperf-sessions 001", b"llmperf-sessions 000"),
            }[damage]
        )
    assert values_of(archive_of(grown, cache)) == expected


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_memory_that_cannot_be_written_is_done_without(
    grown: Project, cache: SessionCache, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o500)
    assert len(archive_of(grown, cache).sessions) == 30


def test_a_file_in_the_memorys_place_is_done_without(
    grown: Project, cache: SessionCache, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("not a folder")
    assert len(archive_of(grown, cache).sessions) == 30


def test_leftovers_of_killed_runs_are_removed(
    grown: Project, cache: SessionCache, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "history"
    folder.mkdir(parents=True)
    old, new = folder / ".x.sessions.1.tmp", folder / ".x.sessions.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    archive_of(grown, cache)
    assert not old.exists()
    assert new.exists()


def test_the_memory_of_all_repositories_is_bounded(
    grown: Project, cache: SessionCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache" / "history"
    folder.mkdir(parents=True)
    for age, name in enumerate(("oldest", "older", "newer"), start=1):
        path = folder / f"{name}.sessions"
        path.write_bytes(b"x" * 10_000)
        os.utime(path, (age, age))
    monkeypatch.setattr(cache_module, "MOST_BYTES", 20_000)
    archive_of(grown, cache)
    assert {path.name for path in folder.iterdir()} - {remembered_name(folder)} == {
        "newer.sessions"
    }


def remembered_name(folder: Path) -> str:
    (own,) = (path.name for path in folder.iterdir() if len(path.stem) == 24)
    return own


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_run_killed_while_it_remembers_harms_nothing(
    grown: Project, cache: SessionCache, tmp_path: Path
) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from pytest_llmperf.history.archive import read_archive\n"
        "from pytest_llmperf.history.cache import SessionCache\n"
        "from pytest_llmperf.repository.git import Repository\n"
        "repository = Repository.around(Path(sys.argv[1]))\n"
        "cache = SessionCache(Path(sys.argv[2]), repository.common_dir)\n"
        f"sessions = read_archive(repository, {FOLDER!r}).records\n"
        "print('ready', flush=True)\n"
        "while True:\n    cache.write(sessions)\n"
    )
    folder = tmp_path / "cache" / "history"
    for pause in (0.0, 0.003, 0.011):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(grown.top), str(folder)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
        assert len(archive_of(grown, cache).sessions) == 30


@pytest.mark.usefixtures("eager")
def test_the_second_process_reads_the_same(grown: Project) -> None:
    alone = archive_of(grown, helper=None)
    with Helper(cpus=2) as helper:
        helper.start(1)
        assert helper.running
        shared = archive_of(grown, helper=helper)
        assert helper.running
    assert shared.sessions == alone.sessions
    assert values_of(shared) == values_of(alone)


@pytest.mark.usefixtures("eager")
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_records_that_a_killed_second_process_had_taken_are_read(grown: Project) -> None:
    with Helper(cpus=2) as helper:
        helper.start(1)
        assert helper._process is not None
        # Stopped, it takes work and never answers; then it dies of it.
        helper._process.send_signal(signal.SIGSTOP)
        ending = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {helper._process.pid}"])
        assert len(archive_of(grown, helper=helper).sessions) == 30
        ending.wait()


@pytest.mark.usefixtures("eager")
def test_a_second_process_that_cannot_start_is_done_without(
    grown: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with Helper(cpus=2) as helper:
        assert len(archive_of(grown, helper=helper).sessions) == 30


@pytest.mark.usefixtures("eager")
def test_modules_in_the_current_folder_are_not_taken_for_ours(grown: Project) -> None:
    for name in ("json.py", "numpy.py", "pytest_llmperf.py"):
        (grown.top / name).write_text("raise SystemExit(1)\n")
    with Helper(cpus=2) as helper:
        helper.start(1)
        helper.ask_to_read(grown.top, [(grown.git("rev-parse", "HEAD:app.py"), "app.py")])
        answer = helper.read()
    assert answer is not None
    assert answer.bad


def test_few_records_start_no_second_process(grown: Project) -> None:
    with Helper(cpus=2) as helper:
        archive_of(grown, helper=helper)
        assert not helper.running


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
    (grown.top / path).unlink()
    found = archive_of(grown)
    assert len(found.sessions) == 29
    assert list(found.unreadable) == [path]


def test_uncommitted_records_are_read_from_the_work_tree(grown: Project) -> None:
    record = record_of(40, grown.git("rev-parse", "HEAD"), 300.0)
    (grown.top / path_of(record)).write_text(to_text(record))
    last = archive_of(grown).sessions[-1]
    assert last.path == path_of(record)


@pytest.mark.skipif(os.name == "nt", reason="needs a pipe in the file system")
def test_what_is_no_file_is_named(grown: Project) -> None:
    folder = grown.top / FOLDER / KEY
    (folder / "link.json").symlink_to("nowhere")
    (folder / "folder.json").mkdir()
    (folder / "folder.json" / "inside").touch()
    os.mkfifo(folder / "pipe.json")
    found = archive_of(grown)
    assert len(found.sessions) == 30
    assert "pipe.json" not in "".join(found.unreadable)  # git lists no pipes


def test_a_record_in_another_machines_folder_is_named(grown: Project) -> None:
    record = record_of(40, None)
    path = grown.top / FOLDER / "other-machine" / "x.json"
    path.parent.mkdir()
    path.write_text(to_text(record))
    found = archive_of(grown)
    assert found.unreadable == {
        f"{FOLDER}/other-machine/x.json": f"a record of machine {KEY} in the folder of "
        f"other-machine\nmove it into the folder {KEY}"
    }


def test_git_that_is_gone_is_an_error(grown: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = around(grown)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(GitError, match="git"):
        read_archive(repository, FOLDER)


def test_a_committed_record_that_was_changed_since_is_read_as_it_is_now(
    grown: Project,
) -> None:
    (path, *_) = sorted(grown.top.glob(f"{FOLDER}/{KEY}/*.json"))
    path.write_text(path.read_text().replace('"1 request', '"2 requests', 1))
    found = archive_of(grown)
    assert found.unreadable == {}
    summaries = [part.summary for layout in found.records.layouts for part in layout]
    assert any(summary.startswith("2 requests") for summary in summaries)


def test_a_file_nobody_can_read_is_named_with_what_mends_it(grown: Project) -> None:
    path = grown.top / FOLDER / KEY / "bad.json"
    path.write_text("{")
    grown.commit({}, "Bad")
    (why,) = archive_of(grown).unreadable.values()
    assert "restore the committed file: git checkout -- " in why
    assert "delete it and record again" in why
    grown.commit({f"{FOLDER}/{KEY}/bad.json": None}, "Gone")
    (why,) = archive_of(grown).unreadable.values()
    assert "it lies in earlier commits only, so there is nothing to restore" in why
