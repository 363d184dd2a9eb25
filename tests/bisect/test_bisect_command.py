"""``llmperf bisect`` as a user runs it: real sessions of a small application, and its output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from bisect_command import CONFIG, FILES, ROOT, SLOW, TEST, Command
from scripted_histories import git

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")


def test_the_slow_commit_is_named_with_its_effect_and_how_sure_that_is(command: Command) -> None:
    command.commit("a remark", toy__py=FILES["toy.py"] + "# a remark\n")
    culprit = command.commit("Slower tokens", toy__py=SLOW)
    command.write("toy.py", "raise SystemExit('uncommitted, and not what is asked about')\n")
    # Once with all installed plugins, as in a user's sessions.
    command.plugins = {}
    result = command.run("HEAD~2", "HEAD", "tests/perf")
    assert (result.status, result.err) == (0, "")
    assert "2 commits: at most 3 sessions, each measuring for at most 10 min" in result.words
    assert f"first bad commit: {culprit}" in result.words
    assert "the chance that this commit itself is no slower is at most 1%" in result.words
    assert max(map(len, result.out.splitlines())) <= 80 or "/" in result.out
    assert result.data["kind"] == "found"
    assert result.data["first"]["hash"] == culprit
    (effect,) = result.data["effects"]
    assert effect["test"] == "tests/perf/test_it.py::test_a"
    assert 0.5 < effect["low"] <= effect["effect"] <= effect["high"]
    assert [step["call"] for step in result.data["path"]] == ["good"]
    assert command.leftover_checkouts() == []
    assert git(command.root, "status", "--porcelain") == "M toy.py"

    # All sessions are kept, so the same search measures nothing again.
    again = command.run("HEAD~2", "HEAD", "tests/perf")
    assert again.status == 0
    assert "session 1:" not in again.out
    assert again.data == result.data


def test_a_commit_that_does_not_import_is_skipped_with_its_reason(command: Command) -> None:
    broken = command.commit("broken", toy__py="import nothing_of_that_name\n")
    slow = command.commit("slow", toy__py=SLOW)
    result = command.run("HEAD~2", "HEAD", cwd="tests")
    assert result.status == 3
    assert result.data["kind"] == "range"
    assert [commit["hash"] for commit in result.data["candidates"]] == [slow, broken]
    assert [commit["hash"] for commit in result.data["skipped"]] == [broken]
    assert "nothing_of_that_name" in (Path(result.data["path"][0]["log"]).read_text())
    assert "the first bad commit is one of 2 commits" in result.words
    assert "--retry-skipped" in result.words


def test_the_work_trees_command_installs_every_commits_packages(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    command.commit("a version that can't be had", requirements__txt="iniconfig==0.0.1\n")
    slow = command.commit("slow", requirements__txt="iniconfig\n", toy__py=SLOW)
    command.write("config.yaml", f"{CONFIG}  base_install: '{{python}} -c \"pass\"'\n")
    result = command.run("HEAD~1", "HEAD")
    assert (result.status, result.data["first"]["hash"]) == (0, slow)


def test_begun_anew_no_earlier_session_counts(command: Command) -> None:
    command.commit("slow", toy__py=SLOW)
    # Two pairs decide nothing, but they would count in later sessions.
    settings = ("perf.accumulate=true", "perf.max_pairs=2")
    asked = ("HEAD~1", "HEAD", "--", *(f"--llmperf-set={setting}" for setting in settings))
    first = command.run(*asked)
    log = Path(first.data["end"]["log"])
    assert first.data["kind"] == "not slower"
    assert "2 pairs" in log.read_text()
    command.run("--restart", *asked)
    assert "of earlier sessions" not in log.read_text()
    log.with_name(log.name.replace(".log", ".session.json")).unlink(missing_ok=True)
    log.unlink()
    command.run(*asked)
    assert "of earlier sessions" not in log.read_text()


def test_with_auto_every_commit_is_judged_by_the_work_trees_calibration(command: Command) -> None:
    command.commit(
        "auto",
        config__yaml=f"{CONFIG}  tolerance: auto\n",
        tests___perf___test_it__py=TEST.replace('(tolerance="20%")', ""),
    )
    command.commit("a remark", toy__py=FILES["toy.py"] + "# a remark\n")
    own = {"PYTHONPATH": str(ROOT), "LLMPERF_DEVICE_LOCK": str(command.home / "device.lock")}
    subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "perf", "--llmperf-record"],
        cwd=command.root,
        env={**os.environ, **own, **command.plugins},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (path,) = command.root.glob("perf_baselines/*/*.json")
    record = json.loads(path.read_text())
    ((nodeid, test),) = record["tests"].items()
    check = {"nodeid": nodeid, "workload": test["workload"], "metric": "end_to_end", "level": 0.01}
    check |= dict.fromkeys(("within", "between", "pair", "mde"))
    figure = {
        "schema": 1,
        "recorded": "2026-11-01T10:15:00Z",
        "plant": "",
        "model": record["model"]["name"],
        "config": record["config"],
        "iterations": 3,
        "turns": "auto",
        "checks": [{**check, "holds": {"300": 0.4}}],
    }
    file = path.parent.relative_to(command.root) / "calibrations" / "a.json"
    command.write(str(file), json.dumps(figure))
    result = command.run("HEAD~1", "HEAD")
    assert result.data["rates"]["tolerance"] is None
    (measured,) = json.loads(Path(result.data["end"]["report"]).read_text())["tests"]
    (judged,) = [metric for metric in measured["metrics"] if metric["gated"]]
    assert (judged["tolerance"], judged["calibrated"]["calibration"]) == (
        0.4,
        "calibrations/a.json",
    )


def test_an_end_that_is_not_slower_stops_with_the_numbers(command: Command) -> None:
    command.commit("a remark", toy__py=FILES["toy.py"] + "# a remark\n")
    result = command.run("HEAD~1", "HEAD", "--", "-k", "test_a")
    assert result.status == 2
    assert result.data["kind"] == "not slower"
    assert "so there is nothing to look for" in result.words
    assert "pass: end to end" in result.words


def test_a_test_that_is_not_there_says_so_with_the_sessions_output(command: Command) -> None:
    command.commit("another", toy__py=FILES["toy.py"] + "# a remark\n")
    result = command.run("HEAD~1", "HEAD", "tests/perf/test_nothing.py")
    assert result.status == 2
    assert "could not be measured against HEAD~1" in result.words
    assert "test_nothing.py" in result.words


def start_measuring(command: Command) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a search, wait for its first session; return the search and the session's processes."""
    command.commit("slow", toy__py=SLOW)
    process = command.start("HEAD~1", "HEAD")
    logs = command.home / "cache" / "bisect"
    wait_until(lambda: any("collected" in log.read_text() for log in logs.glob("*/*.log")))
    session = _children(process.pid)
    assert session
    return process, session


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_it_ends_the_session_and_leaves_nothing_but_what_is_kept(
    command: Command, number: signal.Signals
) -> None:
    process, session = start_measuring(command)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "ending the session ..."
    assert process.returncode == 128 + number
    assert err == (
        "llmperf: interrupted; run the same command to continue\n"
        if number == signal.SIGINT
        else ""
    )
    assert command.leftover_checkouts() == []
    # An engine that was just starting ends when it finds that its parent is gone.
    wait_until(lambda: not alive(session))
    assert alive(session) == []


def test_killed_its_session_ends_and_the_next_run_cleans_up(command: Command) -> None:
    process, session = start_measuring(command)
    process.kill()
    process.communicate()
    wait_until(lambda: not alive(session))
    assert alive(session) == []
    assert command.leftover_checkouts()
    command.run("HEAD~1", "HEAD", "tests/perf/test_nothing.py")
    assert command.leftover_checkouts() == []


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("HEAD", "HEAD~1"), 2, "comes before HEAD"),
        (("HEAD", "HEAD"), 2, "are the same commit"),
        (("nothing", "HEAD"), 2, "there is no commit 'nothing' in"),
        (("HEAD~9", "HEAD"), 2, "HEAD has 1 commit before it"),
        (("HEAD~1", "HEAD", "--", "--llmperf-set", "perf.budget=soon"), 1, "perf.budget"),
        (("HEAD~1", "HEAD", "--", "--llmperf-config", "no.yaml"), 1, "no such file"),
        (("--json", "no/such/out.json", "HEAD~1", "HEAD"), 1, "out.json: there is no folder"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_runs(
    command: Command, words: tuple[str, ...], status: int, text: str
) -> None:
    command.commit("another")
    result = command.run(*words)
    assert (result.status, result.out) == (status, "")
    assert result.err.startswith("llmperf: ")
    assert text in result.words


def test_what_a_commit_says_cannot_reach_the_terminal(command: Command) -> None:
    command.commit("red \x1b[31m\x1b]0;title\x07")
    result = command.run("HEAD", "HEAD~1")
    assert result.status == 2
    assert "red \\x1b[31m\\x1b]0;title\\x07" in result.err


def test_outside_of_a_repository_it_says_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    result = Command(tmp_path / "plain", command.home).run("a", "b")
    assert result.status == 1
    assert "is not in a git work tree" in result.words
