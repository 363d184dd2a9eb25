"""The index, so that records are read once: commands that share it, and damaged indexes."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from commit_projects import repository_at
from history_projects import FOLDER, KEY, Project
from missing_rights import without_rights

from pytest_llmperf.history import index as index_module
from pytest_llmperf.history import record_reader
from pytest_llmperf.history.index import LevelIndex
from pytest_llmperf.history.sessions import RecordedSessions, read_sessions

ASK = (
    "import argparse, sys; from pytest_llmperf.cli import history; p = argparse.ArgumentParser(); "
    "history.add_parser(p.add_subparsers()); sys.exit(history.run(p.parse_args(sys.argv[1:])))"
)
SESSIONS = 30


@pytest.fixture
def grown(project: Project) -> Project:
    """A project with thirty sessions."""
    project.grow([80.0 + number for number in range(SESSIONS)])
    return project


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of the index."""
    return tmp_path / "cache" / "history" / "index.sqlite3"


def read(
    project: Project, file: Path, progress: Callable[[int, int], None] | None = None
) -> RecordedSessions:
    repository = repository_at(project.top)
    return read_sessions(repository, FOLDER, index=LevelIndex(file.parent), progress=progress)


def values_of(recorded: RecordedSessions) -> list[list[float]]:
    return [session.levels.values.tolist() for session in recorded.sessions]


def newly_read(project: Project, file: Path) -> int:
    """Return how many records are read because the index lacks them."""
    totals = {0}
    read(project, file, lambda _, total: totals.add(total))
    return max(totals)


def command(*before: str) -> list[str]:
    """Return the command as a process of its own that first runs the given lines of code."""
    return [sys.executable, "-c", "\n".join((*before, ASK)), "history", "--dir", FOLDER, "--json"]


def test_what_was_read_once_is_not_read_again(grown: Project, file: Path) -> None:
    first = read(grown, file)
    assert len(first.sessions) == SESSIONS
    assert newly_read(grown, file) == 0
    assert read(grown, file).sessions == first.sessions


def test_only_new_records_are_read(grown: Project, file: Path) -> None:
    read(grown, file)
    grown.record(31, 200.0)
    assert newly_read(grown, file) == 1
    assert len(read(grown, file).sessions) == SESSIONS + 1


def test_what_left_the_history_is_not_shown(grown: Project, file: Path) -> None:
    read(grown, file)
    grown.git("reset", "-q", "--hard", "HEAD~20")
    assert len(read(grown, file).sessions) == SESSIONS - 10


def test_another_clone_shares_what_was_read(grown: Project, file: Path, tmp_path: Path) -> None:
    expected = values_of(read(grown, file))
    grown.git("clone", "-q", str(grown.top), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert newly_read(clone, file) == 0
    assert values_of(read(clone, file)) == expected


def test_a_broken_record_is_named_every_time(grown: Project, show: Any) -> None:
    path = f"{FOLDER}/{KEY}/broken.json"
    grown.commit({path: "{"})
    first, again = show("--dir", FOLDER), show("--dir", FOLDER)
    assert first == again
    assert path in again.err


def test_names_in_any_writing_are_remembered(grown: Project, file: Path) -> None:
    grown.record(31, names=("tests/test_ü.py::test[\udcff]",))
    first = read(grown, file)
    assert newly_read(grown, file) == 0
    assert read(grown, file).tests() == first.tests()


def older(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("DROP TABLE records")
        database.execute("CREATE TABLE records (other)")
        database.execute("PRAGMA user_version = 0")


def foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE records (blob)")
        database.execute("PRAGMA user_version = 1")


def other_types(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE records SET level = 'text', checksum = NULL")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: file.write_bytes(b""), ""),
        (lambda file: file.write_bytes(b"not a database" * 100), "not a database"),
        (lambda file: file.write_bytes(file.read_bytes()[:50]), "malformed"),
        (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "malformed"),
        (older, "another version of the plugin wrote it"),
        (foreign, "it is not an index"),
        (other_types, "a row is damaged"),
    ],
    ids=["empty", "no database", "cut", "half", "older", "foreign", "other types"],
)
def test_an_index_that_cannot_be_read_is_started_again(
    grown: Project, file: Path, show: Any, damage: Callable[[Path], None], why: str
) -> None:
    expected = show("--dir", FOLDER, "--json")
    assert expected.err == ""
    damage(file)
    result = show("--dir", FOLDER, "--json")
    assert result._replace(err="") == expected
    assert bool(why) == bool(result.err)
    assert why in result.err
    if why:
        (remark,) = result.err.splitlines()
        assert remark.startswith(f"llmperf: {file} could not be read (")
        assert remark.endswith("): it was started again, from the records themselves")
    assert show("--dir", FOLDER, "--json") == expected
    assert newly_read(grown, file) == 0


def test_whatever_byte_is_wrong_no_wrong_level_is_given(grown: Project, file: Path) -> None:
    read(grown, file)
    with closing(sqlite3.connect(file)) as database:
        blobs = [blob for (blob,) in database.execute("SELECT blob FROM records")]
    expected = LevelIndex(file.parent).read(blobs)
    assert len(expected) == SESSIONS
    whole = file.read_bytes()
    for place in (*range(120), *range(120, len(whole), len(whole) // 400)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        known = LevelIndex(file.parent).read(blobs)
        assert known == {blob: expected[blob] for blob in known}, place


def test_an_index_that_got_too_long_is_started_again(
    grown: Project, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(grown, file)
    monkeypatch.setattr(index_module, "MAX_BYTES", 1)
    grown.record(31)
    read(grown, file)
    assert newly_read(grown, file) == SESSIONS


def in_the_way(file: Path) -> None:
    file.parent.parent.mkdir()
    file.parent.write_text("no folder")


def a_folder(file: Path) -> None:
    file.mkdir(parents=True)


@pytest.mark.parametrize("make", [in_the_way, a_folder])
def test_a_cache_folder_that_cannot_be_used_only_costs_time(
    grown: Project, file: Path, show: Any, make: Callable[[Path], None]
) -> None:
    make(file)
    result = show("--dir", FOLDER)
    assert result.status == 0
    assert f"{SESSIONS} sessions" in result.out
    (remark,) = result.err.splitlines()
    assert remark.startswith(f"llmperf: {file} can't be used (")
    assert "LLMPERF_CACHE_DIR" in remark


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_an_index_in_a_folder_that_is_read_only_is_read(grown: Project, file: Path) -> None:
    read(grown, file)
    blobs = list(read(grown, file).files.blobs.values())
    with TemporaryDirectory() as name:
        folder = Path(name)
        Path(shutil.copy(file, folder)).chmod(0o444)
        with without_rights(folder):
            index = LevelIndex(folder)
            known = index.read(blobs)
            assert len(known) == SESSIONS
            assert index.problem == ""
            index.add(known)
            assert "readonly" in index.problem
            assert LevelIndex(folder).read(blobs) == known
            absent = LevelIndex(folder / "below")
            assert absent.read(blobs) == {}
            absent.add(known)
            assert "denied" in absent.problem


def test_a_python_without_sqlite_reads_records_each_time(grown: Project) -> None:
    without = "import sys; sys.modules['sqlite3'] = None"
    done = subprocess.run(command(without), capture_output=True, check=True)
    assert done.stdout.count(b'"recorded"') == SESSIONS
    (remark,) = done.stderr.decode().splitlines()
    assert remark.startswith("llmperf: records are read again each time (")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
def test_a_full_disk_only_costs_time(grown: Project, file: Path) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
    done = subprocess.run(command(full), capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count(b'"recorded"') == SESSIONS
    assert done.stderr.startswith(f"llmperf: {file} can't be used (".encode())
    # With room again, the index works.
    done = subprocess.run(command(), capture_output=True, check=True)
    assert done.stderr == b""
    assert newly_read(grown, file) == 0


@contextmanager
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


def test_an_index_that_stays_locked_only_costs_time(
    grown: Project, file: Path, show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = show("--dir", FOLDER)
    monkeypatch.setattr(index_module, "_PATIENCE_SECONDS", 0.01)
    with locked(file):
        result = show("--dir", FOLDER)
    assert result.out == expected.out
    assert "locked" in result.err
    assert show("--dir", FOLDER) == expected


def test_commands_that_run_at_once_do_not_hinder_each_other(grown: Project, file: Path) -> None:
    processes = [
        subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert {errors for _, errors in outputs} == {b""}
    (out,) = {out for out, _ in outputs}
    assert out.count(b'"recorded"') == SESSIONS
    assert newly_read(grown, file) == 0


def test_what_was_read_before_an_interruption_is_kept(
    grown: Project, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_reader, "_BATCH", 10)

    def interrupt(done: int, _: int) -> None:
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(grown, file, interrupt)
    assert newly_read(grown, file) == SESSIONS - 20


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_command_killed_while_it_writes_harms_nothing(grown: Project, file: Path) -> None:
    done = subprocess.run(command(), capture_output=True, check=True)
    grown.record(31, 200.0)
    # A cache of one page, so that part of the data is in the file before the commit.
    kill = (
        "import os, sqlite3\n"
        "connect = sqlite3.connect\n"
        "def connect_and_die(*x, **y):\n"
        "    database = connect(*x, **y)\n"
        "    database.execute('PRAGMA cache_size = 1')\n"
        "    fatal = lambda sql: sql.startswith('COMMIT') and os.kill(os.getpid(), 9)\n"
        "    database.set_trace_callback(fatal)\n"
        "    return database\n"
        "sqlite3.connect = connect_and_die"
    )
    for _ in range(2):
        killed = subprocess.run(command(kill), capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert file.with_name("index.sqlite3-journal").stat().st_size > 0
    again = subprocess.run(command(), capture_output=True, check=True)
    assert again.stderr == b""
    assert again.stdout.count(b'"recorded"') == done.stdout.count(b'"recorded"') + 1
    assert newly_read(grown, file) == 0
