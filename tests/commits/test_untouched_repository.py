"""The user's repository and work tree are the same after a session, however it ended."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from commit_projects import ALONE, CONFTEST, ONE_PAIR, SLOW, CommitProject, snapshot, toy_source


@pytest.fixture(scope="module")
def busy(shared: CommitProject) -> CommitProject:
    """A project in the middle of work: staged, changed, stashed, untracked and ignored files."""
    sleeping = "import pytest\nimport time\n\n\n@pytest.fixture(autouse=True)\ndef _sleeping():\n"
    shared.commit("hangs", {"conftest.py": f"{sleeping}    time.sleep(600)\n"})
    shared.git("tag", "hanging")
    shared.commit("does not hang", {"conftest.py": CONFTEST})
    many = {f"many/{number}.txt": f"{number}\n" * 200 for number in range(200)}
    shared.commit("many files", many)
    shutil.rmtree(shared.path / "many")
    shared.commit("no more of them")
    shared.write({"toy.py": toy_source(3.0)})
    shared.git("stash", "push", "--quiet")
    shared.write({"staged.txt": "staged\n", "both.txt": "staged\n"})
    shared.git("add", "staged.txt", "both.txt")
    shared.write({"both.txt": "changed again\n", "untracked.txt": "untracked\n", "model.gguf": "x"})
    # Same content, but not the index's time: a careless git command would refresh the index.
    os.utime(shared.path / "config.yaml", (1, 1))
    return shared


@pytest.fixture(autouse=True)
def _the_same(busy: CommitProject) -> Iterator[None]:
    """Check that a test has left the repository and the work tree unchanged."""
    before = snapshot(busy.top)
    yield
    after = snapshot(busy.top)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert not changed


def test_uncommitted_changes_are_what_is_judged(busy: CommitProject) -> None:
    slow = toy_source(SLOW)
    before = (busy.path / "toy.py").read_text()
    stat = (busy.path / "toy.py").stat()
    folder = busy.path.stat()
    busy.write({"toy.py": slow})
    try:
        session = busy.against("HEAD", "--llmperf-set=perf.max_pairs=6")
        assert (busy.path / "toy.py").read_text() == slow
    finally:
        (busy.path / "toy.py").write_text(before)
        os.utime(busy.path / "toy.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.utime(busy.path, ns=(folder.st_atime_ns, folder.st_mtime_ns))
    assert session.verdicts == {"test_a": "regressed"}
    # The change is not committed, so there are no commits to bisect.
    assert "llmperf bisect" not in session.all_output
    assert session.facts["side_differences"][0].startswith("code: 3 files differ (git diff --stat ")
    assert ", and 1 file not tracked by git (untracked.txt)" in session.facts["side_differences"][0]
    assert busy.checkouts() == []


class Running:
    """A session that runs in the background."""

    def __init__(
        self, project: CommitProject, *arguments: str, rev: str = "HEAD~1", name: str = "output"
    ) -> None:
        self._project = project
        self._measuring = set[int]()
        self._output = project.home / f"{name}.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                project.command(f"--llmperf-against={rev}", ALONE, *arguments),
                cwd=project.path,
                env={**project.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, found: Callable[[], object]) -> None:
        """Wait until ``found`` returns something true; fail if the session ends before."""
        deadline = time.monotonic() + 60
        while not found():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.005)

    def reached(self, moment: str) -> bool:
        """Return whether the session printed this text or, for ``pair N``, started that pair."""
        if not (pair := moment.removeprefix("pair ")).isdigit():
            return moment in self.output
        engine = self.child("bootstrap.py") if "measuring 1 test" in self.output else None
        if engine is not None:
            self._measuring.add(engine.pid)
        return len(self._measuring) > 2 * (int(pair) - 1)

    def child_processes(self) -> list[psutil.Process]:
        """Return the processes that this session started and that are still alive."""
        session = []
        for process in psutil.process_iter():
            try:
                own = process.environ().get("LLMPERF_CACHE_DIR") == str(self._project.cache)
                if own and process.pid != self.process.pid:
                    session.append(process)
            except psutil.Error:
                pass
        return session

    def child(self, word: str) -> psutil.Process | None:
        """Return a process of this session whose command line contains the word."""
        for process in self.child_processes():
            try:
                if any(word in part for part in process.cmdline()):
                    return process
            except psutil.Error:
                pass
        return None

    def stop_leftovers(self) -> list[str]:
        """Wait for the processes of an ended session; kill and return those left after 10 s."""
        deadline = time.monotonic() + 10
        while self.child_processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.child_processes()
        for process in left:
            process.kill()
        return [str(process) for process in left]

    def end(self) -> int:
        try:
            return self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


def killing_git(folder: Path, words: str, after: float) -> Path:
    """Write a ``git`` that is killed ``after`` seconds if its arguments contain ``words``."""
    folder.mkdir()
    real = shutil.which("git")
    script = (
        f'#!/bin/sh\ncase " $* " in *" {words} "*)\n'
        f'  "{real}" "$@" &\n  sleep {after:.4f}\n  kill -9 $!\n  kill -9 $$\nesac\n'
        f'exec "{real}" "$@"\n'
    )
    (folder / "git").write_text(script)
    (folder / "git").chmod(0o755)
    return folder


#: The base, and how far its session gets before the kill: anywhere, to a message, to a pair.
MOMENTS = [("HEAD~1", ""), ("hanging", "recording 1 test"), ("HEAD~1", "pair 2")]


@pytest.mark.parametrize(("rev", "moment"), MOMENTS)
def test_a_killed_session_leaves_no_process(busy: CommitProject, rev: str, moment: str) -> None:
    session = Running(busy, rev=rev)
    try:
        if moment:
            session.wait_for(lambda: session.reached(moment))
        time.sleep(random.Random(moment).uniform(0.2, 1.0))
    finally:
        session.process.kill()
        session.process.wait()
    assert session.stop_leftovers() == []


@pytest.mark.parametrize(
    ("rev", "moment", "state"),
    [("hanging", "recording 1 test", "not measured"), ("HEAD~1", "pair 2", "judged, but")],
)
def test_an_interrupted_session_leaves_nothing(
    busy: CommitProject, rev: str, moment: str, state: str
) -> None:
    session = Running(busy, rev=rev)
    session.wait_for(lambda: session.reached(moment))
    session.process.send_signal(signal.SIGINT)
    assert session.end() == pytest.ExitCode.INTERRUPTED, session.output
    assert session.stop_leftovers() == []
    lines = session.output.splitlines()
    note = next(line for line in lines if "because the session stopped before" in line)
    assert note.startswith(f"llmperf: {state}"), session.output
    assert note.endswith(": test_it.py::test_a"), session.output
    assert busy.checkouts() == []


def test_two_sessions_at_once(busy: CommitProject) -> None:
    sessions = [Running(busy, *ONE_PAIR, name=name) for name in ("one", "other")]
    assert [session.end() for session in sessions] == [0, 0]
    assert all("1 inconclusive" in session.output for session in sessions)
    assert busy.checkouts() == []


def test_a_killed_recording_is_told_and_is_no_regression(busy: CommitProject) -> None:
    session = Running(busy, rev="hanging")
    session.wait_for(lambda: session.child("--llmperf-record-for="))
    recording = session.child("--llmperf-record-for=")
    assert recording is not None
    recording.kill()
    assert session.end() == pytest.ExitCode.TESTS_FAILED, session.output
    assert "pytest exited with status -9 there, so speed was not compared" in session.output
    assert session.stop_leftovers() == []
    assert busy.checkouts() == []


def test_a_killed_worker_of_the_base_is_an_error_that_names_it(busy: CommitProject) -> None:
    session = Running(busy)
    session.wait_for(lambda: session.reached("pair 1"))

    def base() -> psutil.Process | None:
        for process in session.child_processes():
            try:
                if str(busy.cache) in process.cwd():
                    return process
            except psutil.Error:
                pass
        return None

    session.wait_for(base)
    worker = base()
    assert worker is not None
    worker.kill()
    assert session.end() == pytest.ExitCode.TESTS_FAILED, session.output
    assert "error: " in session.output
    assert "base (HEAD~1 (" in session.output
    assert "regressed: " not in session.output
    assert session.stop_leftovers() == []
    assert busy.checkouts() == []


@pytest.mark.parametrize(
    "words", ["rev-parse --show-toplevel", "worktree add", "reset --quiet", "status --porcelain=v2"]
)
def test_a_killed_git_is_told_and_is_no_regression(
    busy: CommitProject, tmp_path: Path, words: str
) -> None:
    wrapped = killing_git(tmp_path / "bin", words, random.Random(words).uniform(0.0005, 0.004))
    path = {"PATH": os.pathsep.join([str(wrapped), os.environ["PATH"]])}
    session = busy.against("HEAD~1", *ONE_PAIR, environ=path)
    assert session.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.TESTS_FAILED), (
        session.all_output
    )
    assert session.report is None
    assert "Traceback" not in session.all_output
    assert "regressed" not in session.all_output
    assert "is not in a git repository" not in session.all_output
    assert busy.checkouts() == []


def test_the_next_run_works_and_cleans_up(busy: CommitProject) -> None:
    logs = {*busy.temporary.iterdir()}
    session = Running(busy)
    session.wait_for(lambda: "measuring 1 test" in session.output)
    os.killpg(session.process.pid, signal.SIGKILL)
    session.process.wait()
    assert session.stop_leftovers() == []
    assert busy.checkouts() != []
    next_session = busy.against("HEAD~1", *ONE_PAIR)
    assert next_session.verdicts == {"test_a": "inconclusive"}
    assert busy.checkouts() == []
    assert {*busy.temporary.iterdir()} == logs
