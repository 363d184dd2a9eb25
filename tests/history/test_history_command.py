"""The command: what it prints, what changed when, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from history_projects import FOLDER, KEY, LONG, SHORT, Project, path_of, record_of

from pytest_llmperf.baselines.record import to_text
from pytest_llmperf.history import build as build_module
from pytest_llmperf.text import display_width

ASK = (
    "import argparse, sys; from pytest_llmperf.cli import history; p = argparse.ArgumentParser(); "
    "history.add_parser(p.add_subparsers()); sys.exit(history.run(p.parse_args(sys.argv[1:])))"
)
needs_library = pytest.mark.skipif(
    build_module.library() is None, reason="the history extra is not installed"
)


def steady(count: int, level: float = 85.0, seed: int = 1) -> list[float]:
    """Return levels with 1% of noise."""
    return (level * np.exp(0.01 * np.random.default_rng(seed).standard_normal(count))).tolist()


def slowed(count: int, at: int, by: float = 0.10) -> list[float]:
    rates = steady(count)
    return [*rates[:at], *(rate / (1 + by) for rate in rates[at:])]


def lines_with(text: str, words: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if words in line]


def joined(text: str) -> str:
    """Return the text with its line breaks as spaces."""
    return " ".join(text.split())


def test_every_test_and_metric_is_shown(project: Project, show: Any) -> None:
    project.commit({"app.py": "1"})
    for number in range(3):
        project.record(number, 80.0 + number, names=(SHORT, LONG))
    result = show("--dir", FOLDER)
    assert (result.status, result.err) == (0, "")
    assert SHORT in result.out
    assert LONG in result.out
    rates = lines_with(result.out, "tokens/s")
    assert len(rates) == 2
    assert all("80.0 tok/s" in line and "82.0 tok/s" in line for line in rates)
    assert f"{KEY}: 2026-01-01 to 2026-01-03, up to 3 sessions of a test" in joined(result.out)


@pytest.mark.parametrize(("sessions", "first", "last"), [(4, "80.0", "86.0"), (10, "84.0", "94.0")])
def test_few_sessions_are_summed_up_by_the_oldest_and_the_newest(
    project: Project, show: Any, sessions: int, first: str, last: str
) -> None:
    project.grow([80.0 + 2 * number for number in range(sessions)])
    (line,) = lines_with(show("--dir", FOLDER).out, "tokens/s")
    assert line.split()[-6:-2] == [first, "tok/s", last, "tok/s"]


def test_the_folder_of_the_configuration_is_taken(project: Project, show: Any) -> None:
    project.commit({"config.yaml": "llm:\n  model_path: smollm2-135m\n"})
    project.record(1)
    assert SHORT in show().out


@needs_library
def test_a_change_is_put_down_to_the_commits_between_two_sessions(
    project: Project, show: Any
) -> None:
    measured = project.grow(slowed(30, 20), between=4)
    result = show("--dir", FOLDER)
    before, after = measured[19][:12], measured[20][:12]
    words = joined(result.out)
    assert "1: tokens/s 10" in words
    # Four commits of code, and the one that recorded the session before.
    assert f"between {before} (2026-01-20) and {after} (2026-01-21): 5 commits" in words
    assert lines_with(result.out, "git log") == [f"git log --oneline {before}..{after}"]
    assert lines_with(result.out, "llmperf bisect") == [f"llmperf bisect {before} {after} {SHORT}"]
    log = project.git("log", "--oneline", f"{before}..{after}")
    assert len(log.splitlines()) == 5


@needs_library
def test_metrics_that_changed_together_are_said_together(project: Project, show: Any) -> None:
    project.grow(slowed(30, 20))
    result = show("--dir", FOLDER)
    (line,) = lines_with(result.out, "1: ")
    assert line.startswith("1: tokens/s 10")
    assert "; first token 10" in joined(result.out)
    assert [line.split() for line in lines_with(result.out, "^")][:2] == [["^1"], ["^1"]]


@needs_library
def test_a_single_commit_is_named_and_not_searched(project: Project, show: Any) -> None:
    project.commit({"app.py": "0"})
    for number, rate in enumerate(slowed(24, 14)):
        record = record_of(number, project.commit({"app.py": f"{number}"}, f"Do {number}"), rate)
        path = project.top / path_of(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_text(record))
    result = show("--dir", FOLDER)
    assert ": 1 commit, Do 14" in joined(result.out)
    assert "bisect" not in result.out


@needs_library
def test_a_change_between_sessions_of_one_commit_is_not_put_down_to_it(
    project: Project, show: Any
) -> None:
    commit = project.commit({"app.py": "1"})
    records = {number: {"commit": commit} for number in range(24)}
    project.grow(slowed(24, 14), records=records)
    result = show("--dir", FOLDER)
    assert "both sessions measured the same commit" in joined(result.out)
    assert "git log" not in result.out


@needs_library
def test_commits_that_are_gone_are_said_to_be(project: Project, show: Any) -> None:
    records = {number: {"commit": f"{number:040x}"} for number in range(24)}
    project.grow(slowed(24, 14), records=records)
    result = show("--dir", FOLDER)
    assert "is not in this repository (squashed or rebased)" in joined(result.out)
    assert "git log" not in result.out


@needs_library
def test_sessions_without_a_commit_are_said_to_be(project: Project, show: Any) -> None:
    project.grow(slowed(24, 14), records={n: {"commit": None} for n in range(24)})
    assert "a session was recorded outside a repository" in joined(show("--dir", FOLDER).out)


@needs_library
def test_uncommitted_changes_are_said(project: Project, show: Any) -> None:
    project.grow(slowed(24, 14), records={n: {"dirty": True} for n in range(24)})
    assert joined(show("--dir", FOLDER).out).count("with changes (2026-01-") == 2


@needs_library
def test_a_change_on_another_branch_is_not_to_be_searched(project: Project, show: Any) -> None:
    measured = project.grow(steady(12))
    project.git("checkout", "-q", "-b", "side", measured[5])
    side = [project.commit({"app.py": f"side {n}"}, day=20 + n) for n in range(12)]
    project.git("checkout", "-q", "main")
    for number, commit in enumerate(side, start=20):
        record = record_of(number, commit, 70.0 + 0.1 * (number % 3))
        path = project.top / path_of(record)
        path.write_text(to_text(record))
    result = show("--dir", FOLDER)
    assert "git log" in result.out
    assert "bisect" not in result.out


def test_without_the_library_the_series_are_shown_and_what_to_install(
    project: Project, show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "library", lambda: None)
    project.grow(slowed(30, 20))
    result = show("--dir", FOLDER)
    assert result.status == 0
    assert "tokens/s" in result.out
    assert "^" not in result.out
    assert "pip install 'pytest-llmperf[history]'" in joined(result.out)
    result = show("--dir", FOLDER, "--json")
    assert json.loads(result.out)["library"] is None
    assert "pip install 'pytest-llmperf[history]'" in result.err


def test_another_workload_is_said_not_to_be_compared(project: Project, show: Any) -> None:
    changed = {"workload": "w2", "summary": "2 requests"}
    alike = {"workload": "w3", "summary": "2 requests"}
    records = {**dict.fromkeys(range(4, 6), changed), **dict.fromkeys(range(6, 8), alike)}
    project.grow(steady(8), records=records)
    words = joined(show("--dir", FOLDER).out)
    assert "2 requests; 2 sessions" in words
    assert "another workload (of the same size): not compared" in words
    assert "another workload (above: 1 request, 38 tokens in, 64 out): not compared" in words


def test_invalid_sessions_are_counted(project: Project, show: Any) -> None:
    project.grow(steady(4), records={1: {"invalid": ("busy",)}})
    assert "3 sessions, 2026-01-01 to 2026-01-04; 1 invalid left out" in joined(
        show("--dir", FOLDER).out
    )


def test_that_every_session_is_invalid_is_explained(project: Project, show: Any) -> None:
    project.grow(steady(2), records={0: {"invalid": ("busy",)}, 1: {"invalid": ("busy",)}})
    result = show("--dir", FOLDER)
    assert result.out.startswith(
        "nothing to show: all 2 recorded results are invalid, because the machine was disturbed\n"
    )
    assert "pytest -m perf --llmperf-record" in result.out


def test_that_no_session_matches_is_explained(project: Project, show: Any) -> None:
    project.grow(steady(3), records={1: {"invalid": ("busy",)}})
    result = show("--dir", FOLDER, "--since", "2036-01-01")
    assert "no recorded session matches these arguments" in result.out


def test_an_accepted_level_is_marked_with_its_reason(project: Project, show: Any) -> None:
    project.grow(steady(4), records={2: {"accepted": "a better sampler"}})
    (line,) = lines_with(show("--dir", FOLDER).out, "accepted:")
    assert line.endswith("(2026-01-03), a better sampler")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(
    project: Project, show: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    nodeid = "tests/" + "deeply/" * 9 + "test_wide.py::test_x[" + "param-" * 20 + "ü]"
    project.grow(
        slowed(150, 70), records={n: {"accepted": "why " * 60} for n in (3, 140)}, between=2
    )
    project.record(200, 50.0, names=(nodeid,))
    lines = show("--dir", FOLDER).out.splitlines()
    commands = ("     git log ", "     llmperf bisect ")
    assert max(display_width(x) for x in lines if not x.startswith(commands)) <= columns
    assert any("▁" in line and len(line) > columns - 10 for line in lines)


def test_a_terminal_without_unicode_gets_ascii(project: Project) -> None:
    project.grow(slowed(30, 20), records={3: {"accepted": "für alle"}})
    done = ask("--dir", FOLDER, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"f\\xfcr alle" in done.stdout
    assert b"_" in next(line for line in done.stdout.splitlines() if b"first token" in line)


def ask(*words: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", ASK, "history", *words],
        env={**os.environ, **environ},
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_control_characters_are_shown_escaped(project: Project, show: Any) -> None:
    project.commit({"app.py": "1"})
    project.record(1, names=("test_x.py::test[\x1b[2J]",), summary="\x07", accepted="\x1b[31m")
    out = show("--dir", FOLDER).out
    assert not {"\x1b", "\x07"} & set(out)


def test_json_holds_the_series(project: Project, show: Any) -> None:
    measured = project.grow([80.0, 90.0, 70.0], records={1: {"invalid": ("busy",)}})
    data = json.loads(show("--dir", FOLDER, "--json").out)
    assert [session["commit"] for session in data["sessions"]] == [measured[0], measured[2]]
    (test,) = data["tests"]
    assert (test["nodeid"], test["machine"], test["invalid"]) == (SHORT, KEY, 1)
    rate = test["metrics"]["tokens_per_sec"]
    assert (rate["unit"], rate["direction"]) == ("tok/s", "higher")
    assert rate["sessions"] == [0, 1]
    assert rate["values"] == pytest.approx([80.0, 70.0], rel=2e-3)


@needs_library
def test_json_holds_the_changes(project: Project, show: Any) -> None:
    measured = project.grow(slowed(30, 20), between=2)
    data = json.loads(show("--dir", FOLDER, "--json", "--metric", "first_token").out)
    (test,) = data["tests"]
    (change,) = test["changes"]
    assert data["sessions"][change["before"]]["commit"] == measured[19]
    assert data["sessions"][change["after"]]["commit"] == measured[20]
    assert (change["commits"], change["searchable"]) == (3, True)
    effect = change["metrics"]["first_token"]
    assert effect["low"] < 0.10 < effect["high"]
    (point,) = test["metrics"]["first_token"]["change_points"]
    assert point["index"] == 20
    assert point["slowdown"] == effect["slowdown"]


def test_csv_holds_a_row_per_session_and_metric(project: Project, show: Any) -> None:
    measured = project.grow([80.0, 90.0])
    rows = list(csv.DictReader(io.StringIO(show("--dir", FOLDER, "--csv").out)))
    assert [(row["metric"], row["commit"]) for row in rows] == [
        (metric, commit) for metric in ("tokens_per_sec", "first_token") for commit in measured
    ]
    assert float(rows[1]["value"]) == pytest.approx(90.0, rel=2e-3)
    assert {row["test"] for row in rows} == {SHORT}


@needs_library
def test_csv_says_where_a_level_starts(project: Project, show: Any) -> None:
    project.grow(slowed(30, 20))
    rows = csv.DictReader(
        io.StringIO(show("--dir", FOLDER, "--csv", "--metric", "first_token").out)
    )
    starts = [(number, float(row["slowdown"])) for number, row in enumerate(rows)
              if row["change_point"] == "1"]  # fmt: skip
    assert starts == [(20, pytest.approx(0.10, abs=0.02))]


def test_tests_are_named_by_their_ends(project: Project, show: Any) -> None:
    project.commit({"app.py": "1"})
    project.record(1, names=(SHORT, LONG))
    out = show("--dir", FOLDER, "test_chat.py::test_short").out
    assert SHORT in out
    assert LONG not in out


def test_a_metric_can_be_asked_for(project: Project, show: Any) -> None:
    project.grow([80.0])
    out = show("--dir", FOLDER, "--metric", "first_token").out
    assert "first token" in out
    assert "tokens/s" not in out


def test_broken_records_are_named_and_the_others_shown(project: Project, show: Any) -> None:
    project.grow(steady(3))
    for number in range(12):
        (project.top / FOLDER / KEY / f"bad{number:02}.json").write_text("{")
    result = show("--dir", FOLDER)
    assert result.status == 0
    assert "3 sessions" in result.out
    first, *named, last = result.err.splitlines()
    assert first == "llmperf: 12 files left out:"
    assert named[0] == (
        f"  {FOLDER}/{KEY}/bad00.json: not JSON: expecting property name enclosed in double "
        "quotes (line 1)"
    )
    assert named[1].startswith("    restore the committed file: git checkout -- ")
    assert (len(named), last) == (20, "  and 2 more")


def test_a_record_in_another_machines_folder_is_left_out(project: Project, show: Any) -> None:
    project.grow(steady(2))
    (first, _) = sorted((project.top / FOLDER / KEY).iterdir())
    other = project.top / FOLDER / "other-4c_cpu"
    other.mkdir()
    first.rename(other / first.name)
    shown = show("--dir", FOLDER)
    assert shown.status == 0
    assert "2 sessions" in shown.out
    assert f"a record of machine {KEY} in the folder of other-4c_cpu\n    move it into" in shown.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("test_nope",), 2, f"has no test 'test_nope'; it has: '{SHORT}'"),
        (("--metric", "frist_token"), 2, "did you mean 'first_token'"),
        (("--machine", "xeon-4c_cpu"), 2, f"did you mean '{KEY}'"),
        (("--since", "mian"), 2, "there is no commit 'mian'"),
        (("--since", "--upload-pack=x"), 2, ""),
        (("--since", "2026-13-45"), 2, "is not a valid date or time"),
        (("--limit", "0"), 2, "expected an integer >= 1"),
        (("--limit", "x"), 2, "expected an integer >= 1"),
        (("--json", "--csv"), 2, "not allowed with"),
    ],
)
def test_a_wrong_argument_is_refused(
    project: Project, show: Any, words: tuple[str, ...], status: int, said: str
) -> None:
    project.grow(steady(2))
    result = show("--dir", FOLDER, *words)
    assert (result.status, result.out) == (status, "")
    assert said in result.err


def test_what_is_complained_of_cannot_reach_the_terminal(project: Project, show: Any) -> None:
    project.grow(steady(1))
    result = show("--dir", "\x1b[31mred")
    assert result.status == 1
    assert "\\x1b[31mred" in result.err
    assert "\x1b" not in result.err


def test_nothing_recorded_is_a_problem(project: Project, show: Any) -> None:
    project.commit({"app.py": "1"})
    result = show("--dir", FOLDER)
    assert (result.status, result.out) == (1, "")
    assert "no session was ever recorded there" in result.err
    assert "pytest -m perf --llmperf-record" in result.err


def test_no_repository_is_a_problem(
    project: Project, show: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    result = show("--dir", FOLDER)
    assert result.status == 1
    assert "not in a git repository" in result.err


def test_a_folder_that_is_gone_still_has_a_history(project: Project, show: Any) -> None:
    project.grow(steady(3))
    shutil.rmtree(project.top / FOLDER)
    assert "3 sessions" in show("--dir", FOLDER).out
    project.commit({"app.py": "2"})
    assert "3 sessions" in show("--dir", FOLDER).out


def test_a_linked_worktree_is_a_repository_too(
    project: Project, show: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    project.grow(steady(3))
    project.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked tree"))
    monkeypatch.chdir(tmp_path / "linked tree")
    assert "3 sessions" in show("--dir", FOLDER).out


def test_the_environment_of_a_hook_does_not_matter(
    project: Project, show: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    project.grow(steady(3))
    other = Project(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.top / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.top))
    assert "3 sessions" in show("--dir", FOLDER).out


def test_a_shallow_clone_is_said_to_be_one(
    project: Project, show: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    project.grow(steady(6), prune=2)
    project.git("clone", "-q", "--depth", "1", f"file://{project.top}", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    result = show("--dir", FOLDER)
    assert "2 sessions" in result.out
    assert "shallow clone" in result.err
    assert "git fetch --unshallow" in result.err


def test_nothing_is_written_to_the_repository(project: Project, show: Any) -> None:
    project.grow(steady(25))
    before = tree_of(project)
    show("--dir", FOLDER)
    assert tree_of(project) == before


def test_a_record_that_was_only_touched_leaves_the_index_alone(project: Project, show: Any) -> None:
    project.grow(steady(3))
    for record in (project.top / FOLDER).rglob("*.json"):
        os.utime(record, (1, 1))
    before = tree_of(project)
    assert "3 sessions" in show("--dir", FOLDER).out
    assert tree_of(project) == before


def tree_of(project: Project) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(project.top.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("sessions", "read", "heavy"),
    [
        (3, False, "llama_cpp pytest"),
        (3, True, "llama_cpp pytest pydantic"),
        (0, False, "llama_cpp pytest pydantic numpy"),
    ],
    ids=["new records", "known records", "no records"],
)
def test_nothing_heavy_is_imported_that_is_not_needed(
    project: Project, show: Any, sessions: int, read: bool, heavy: str
) -> None:
    project.commit({"app.py": "1"})
    if sessions:
        project.grow(steady(sessions))
    if read:
        show("--dir", FOLDER)
    report = f"print('imported:', set({heavy.split()}) & set(sys.modules), file=sys.stderr)"
    code = f"import atexit, sys; atexit.register(lambda: {report}); {ASK}"
    done = subprocess.run(
        [sys.executable, "-c", code, "history", "--dir", FOLDER], capture_output=True, check=False
    )
    assert done.returncode == (0 if sessions else 1)
    assert done.stderr.endswith(b"imported: set()\n")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX terminals")
def test_a_terminal_sees_how_far_the_reading_is(project: Project) -> None:
    project.grow(steady(12))
    at_once = f"import pytest_llmperf.cli.history as p; p._PAUSE = 0.0; {ASK}"
    first, again = on_a_terminal(at_once, 80), on_a_terminal(at_once, 80)
    *drawn, blank, rest = first.split("\r")[1:]
    assert [line.rstrip() for line in drawn] == [
        f"reading records [{'#' * (30 * n // 12):.<30}] {n} of 12" for n in range(1, 13)
    ]
    # The bar is gone when the history is shown.
    assert (blank.strip(), rest) == ("", "")
    assert again == ""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX terminals")
def test_the_bar_is_never_wider_than_the_terminal(project: Project) -> None:
    project.grow(steady(12))
    at_once = f"import pytest_llmperf.cli.history as p; p._PAUSE = 0.0; {ASK}"
    assert max(map(len, on_a_terminal(at_once, 20).split("\r"))) == 19


def on_a_terminal(code: str, columns: int) -> str:
    """Return what the command writes to standard error on a terminal."""
    import pty

    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code, "history", "--dir", FOLDER],
        env={**os.environ, "COLUMNS": str(columns)},
        stdout=subprocess.DEVNULL,
        stderr=slave,
        check=False,
    )
    os.close(slave)
    written = b""
    with suppress(OSError):  # a closed terminal
        while chunk := os.read(master, 1 << 16):
            written += chunk
    os.close(master)
    assert done.returncode == 0
    return written.decode()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
def test_a_reader_that_has_seen_enough_is_no_error(project: Project) -> None:
    project.grow(steady(300))
    with subprocess.Popen(
        [sys.executable, "-c", ASK, "history", "--dir", FOLDER, "--csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interruption_is_said_in_one_line(project: Project) -> None:
    project.grow(steady(3))
    stop = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    code = (
        f"import pytest_llmperf.history.sessions as s\ndef read(*x, **y):\n    {stop}\n"
        f"s.read_commits = read\n{ASK}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "history", "--dir", FOLDER],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"llmperf: interrupted\n")
