"""Engines that die, and users who press Ctrl-C: one clear message, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ended_processes import wait_until_ended
from plugin_projects import APP


def test_a_crash_in_a_body_fails_that_test_and_the_next_one_runs(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("crash")

        @pytest.mark.perf
        def test_two(llm_engine):
            llm_engine.generate("a")
        """
    )
    result = project.perf()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*the engine's process was ended by SIGSEGV while generating*"])
    assert project.verdicts() == {"test_two": "no baseline"}


def test_a_crash_while_measuring_fails_that_test_only(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("crash later")

        @pytest.mark.perf
        def test_two(llm_engine):
            llm_engine.generate("a")
        """
    )
    result = project.perf()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["error: *SIGSEGV while generating*"])
    assert project.verdicts() == {"test_one": "error", "test_two": "no baseline"}
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_an_engine_that_hangs_in_a_body_fails_that_test(project):
    project.pytester.makepyfile(
        toy="""
        import time

        def answer(prompt):
            time.sleep(600 if prompt == "hang" else 0.001)
            return "word"
        """
    )
    project.configure(
        "llm: {engine: app, target: 'toy:answer', generation_timeout: 300ms}\nperf: {processes: 1}"
    )
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("hang")

        @pytest.mark.first_token
        def test_two(llm_engine):
            llm_engine.generate("a")
        """
    )
    result = project.perf()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*no answer in 0.3 s while generating and was killed*"])


def test_a_clock_that_the_application_changes_costs_at_most_its_own_test(project):
    project.pytester.makepyfile(
        toy="""
        import pathlib, time
        from pytest_llmperf.engine.own_time import OWN_TIME

        time.perf_counter = time.monotonic = lambda: float("nan")
        asked, lies, now = pathlib.Path("asked"), False, OWN_TIME.now
        OWN_TIME.now = lambda: float("nan") if lies else now()

        def answer(prompt):
            global lies
            lies = prompt == "lie later" and asked.exists()
            if prompt == "lie later":
                asked.touch()
            yield "a"
            yield "b"
            lies = False
        """
    )
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("lie later")

        @pytest.mark.perf
        def test_two(llm_engine):
            llm_engine.generate("a")
        """
    )
    result = project.perf()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*test_one*", "error: *: the times of toy:answer can't be right: a clock reading is not*"]
    )
    assert project.verdicts() == {"test_one": "error", "test_two": "no baseline"}
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_an_application_that_cannot_be_imported_is_told_once_per_test(project):
    project.configure("llm: {engine: app, target: 'nowhere:answer'}\nperf: {processes: 1}")
    project.write(test_it="@pytest.mark.perf\ndef test_x(llm_engine): pass\n")
    result = project.here("-m", "perf")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["llm.target 'nowhere:answer' could not be loaded:*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_baseline_broken_while_the_bodies_run_is_named(project):
    project.write(
        test_it="""
        import pathlib

        @pytest.mark.perf
        def test_x(llm_engine):
            llm_engine.generate("a")
            for file in pathlib.Path("perf_baselines").rglob("*.json"):
                file.write_text("{")
        """
    )
    assert project.perf("--llmperf-record").ret == 0
    result = project.here("-m", "perf")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*could not be measured:*", "*perf_baselines*.json*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def started(project, *args: str) -> subprocess.Popen[str]:
    """Start a session in a process of its own, and wait until its engine hangs."""
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-m", "perf", *args],
        cwd=project.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not engine_pid(project):
        assert session.poll() is None, session.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return session


def engine_pid(project) -> int:
    """Return the process id of the engine that hangs, or 0."""
    file: Path = project.path / "hanging"
    return int(file.read_text() or 0) if file.exists() else 0


#: An application that hangs in its seventh process, counting the one that ran the bodies.
HANGS_LATER = """
import os, pathlib, time

file = pathlib.Path("processes")
file.touch()
with file.open("a") as processes:
    processes.write("x")

def answer(prompt, max_tokens=4):
    if len(file.read_text()) > 6:
        pathlib.Path("hanging").write_text(str(os.getpid()))
        time.sleep(600)
    for number in range(max_tokens):
        time.sleep(0.002)
        yield f"word{number} "
"""
#: Other processes on this machine are not what the test is about.
ALONE = "  fitness: {busy_cores: note, stolen_cores: note, memory_pressure: note}\n"


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
class TestSignals:
    LATER = """
    @pytest.mark.perf
    def test_x(llm_engine):
        llm_engine.generate("hang later")
    """
    NOW = """
    @pytest.mark.perf
    def test_x(llm_engine):
        llm_engine.generate("a")
        llm_engine.generate("hang later")
    """

    @pytest.mark.parametrize("source", [LATER, NOW], ids=["measuring", "in a body"])
    def test_ctrl_c_ends_session_and_engine(self, project, source):
        project.write(test_it=source)
        session = started(project)
        pid = engine_pid(project)
        os.kill(session.pid, signal.SIGINT)
        # Two seconds are promised; the rest is for the interpreter to end on a busy machine.
        output, _ = session.communicate(timeout=2 + 8)
        assert session.returncode == pytest.ExitCode.INTERRUPTED
        assert "KeyboardInterrupt" in output
        assert wait_until_ended(pid, 1)

    def test_ctrl_c_while_measuring_says_what_was_not_measured(self, project):
        project.write(test_it=self.LATER)
        session = started(project)
        os.kill(session.pid, signal.SIGINT)
        output, _ = session.communicate(timeout=10)
        assert "not measured, because the session stopped before: test_it.py::test_x" in output
        assert "INTERNALERROR" not in output

    def test_ctrl_c_shows_the_verdicts_of_what_was_measured(self, project):
        project.path.joinpath("toy.py").write_text(HANGS_LATER)
        project.configure(APP + ALONE)
        project.write(
            test_it="""
            @pytest.mark.end_to_end(max="1us")
            def test_slow(llm_engine):
                llm_engine.generate("a", max_tokens=40)

            @pytest.mark.inter_token(max="1s", percentile=95)
            def test_percentile(llm_engine):
                llm_engine.generate("b", max_tokens=40)
            """
        )
        report = project.path / "out.json"
        session = started(project, "--llmperf-record", "--llmperf-json", str(report))
        os.kill(session.pid, signal.SIGINT)
        output, _ = session.communicate(timeout=10)
        assert session.returncode == pytest.ExitCode.INTERRUPTED
        said = " ".join(output.split())
        assert "the session was interrupted: verdicts are those of what was measured" in said
        assert "missed end to end: target missed by a factor of" in said
        undecided = (
            "5 groups of processes measured before the session was interrupted, 8 are needed"
        )
        assert undecided in said
        assert "2 tests, 2 checks: 1 missed, 1 inconclusive" in said
        # An interrupted test neither passes nor fails.
        assert "passed with a warning" not in said
        names = "test_it.py::test_slow, test_it.py::test_percentile"
        assert (
            f"judged, but not reported as run, because the session stopped before: {names}" in said
        )
        assert "this session was interrupted before it was recorded" in said
        assert project.baselines() == []
        assert not report.exists()

    def test_a_killed_session_leaves_no_engine(self, project):
        project.write(test_it=self.LATER)
        session = started(project)
        pid = engine_pid(project)
        session.kill()
        session.communicate(timeout=10)
        assert wait_until_ended(pid, 10)
