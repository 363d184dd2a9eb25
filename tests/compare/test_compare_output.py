"""Where a comparison is written, and in which format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_outputs import Output
from compare_sessions import CHAT, LONG, Project

Compare = Callable[..., Output]

_RUN = (
    "import argparse, sys\n"
    "from pytest_llmperf.cli import compare\n"
    "parser = argparse.ArgumentParser()\n"
    "compare.add_parser(parser.add_subparsers(dest='command'))\n"
    "sys.exit(compare.run(parser.parse_args(['compare', *sys.argv[1:]])))\n"
)


@pytest.fixture
def slower(project: Project) -> Project:
    project.base(tests=(CHAT,))
    project.record(11, 1.10, tests=(CHAT, LONG), config={"n_ctx": 4096})
    project.commit("Slower")
    return project


def test_json_is_a_sessions_report_and_more(slower: Project, llmperf_compare: Compare) -> None:
    status, out, _ = llmperf_compare("HEAD~1", "HEAD", "--format", "json")
    data = json.loads(out)
    assert status == 1
    assert data["schema"] == 1
    assert data["counts"] == {"regressed": 3}
    assert [test["nodeid"] for test in data["tests"]] == [CHAT]
    assert data["compare"]["outcome"] == "regressed"
    assert data["compare"]["added"] == [LONG]
    assert data["compare"]["base"].startswith("HEAD~1 (")
    assert data["compare"]["why_not"] is None


def test_json_says_why_there_is_no_comparison(slower: Project, llmperf_compare: Compare) -> None:
    status, out, err = llmperf_compare("HEAD", "HEAD", "--format", "json")
    data = json.loads(out)
    assert (status, data["session"], data["tests"]) == (2, None, [])
    assert data["compare"]["outcome"] == "not compared"
    assert err == f"llmperf: {data['compare']['why_not']}\n"


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_a_file_holds_what_would_be_printed(
    slower: Project, llmperf_compare: Compare, form: str
) -> None:
    printed = llmperf_compare("HEAD~1", "HEAD", "--format", form).out
    words = ("HEAD~1", "HEAD", "--format", form, "--output", "new/out")
    status, out, _ = llmperf_compare(*words)
    assert status == 1
    assert Path("new/out").read_text("utf-8") == printed
    assert out.splitlines() == ["1 test, 3 checks: 3 regressed", f"wrote {Path('new/out')}"]


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_an_older_file_does_not_outlive_a_refusal(
    slower: Project, llmperf_compare: Compare, form: str
) -> None:
    Path("out").write_text("all is well")
    status, _, err = llmperf_compare("HEAD", "HEAD", "--format", form, "--output", "out")
    assert status == 2
    text = Path("out").read_text("utf-8")
    assert "not compared" in text
    assert "same sessions" in text
    assert "same sessions" in err


def test_a_file_that_cannot_be_written_is_no_regression(
    slower: Project, llmperf_compare: Compare
) -> None:
    Path("taken").write_text("")
    status, _, err = llmperf_compare("HEAD~1", "HEAD", "--output", "taken/out")
    assert status == 2
    assert err.startswith("llmperf: the comparison can't be written to")
    assert "--output" in err
    status, _, err = llmperf_compare("HEAD~1", "HEAD", "--output", "perf_baselines")
    assert status == 2
    assert "folder" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device there")
def test_a_full_output_is_no_regression(slower: Project) -> None:
    with Path("/dev/full").open("w") as full:
        done = _run(stdout=full)
    assert done.returncode == 2
    assert done.stderr == "llmperf: the comparison can't be printed: no space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
def test_a_reader_that_leaves_early_changes_no_status(slower: Project) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = _run(stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_output_that_knows_few_letters_gets_escapes(slower: Project) -> None:
    done = _run(stdout=subprocess.PIPE, encoding="ascii")
    assert done.returncode == 1
    assert done.stdout.isascii()
    assert "llm.n_ctx: 2048 \\u2192 4096" in done.stdout


def test_a_subject_cannot_play_with_the_terminal(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base()
    project.record(11)
    project.commit("\x1b[2Jgone")
    for words in (("HEAD~1", "HEAD"), ("HEAD", "HEAD"), ("HEAD~1", "HEAD", "--format", "markdown")):
        _, out, err = llmperf_compare(*words)
        assert "\x1b" not in out + err
        assert "\\x1b" in out.replace("&#92;", "\\") + err


def test_ctrl_c_is_told_in_one_line(
    slower: Project, llmperf_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_llmperf.baselines.store.read_record", interrupt)
    assert llmperf_compare("HEAD~1", "HEAD") == (130, "", "llmperf: interrupted\n")


def test_a_wrong_configuration_is_no_regression(slower: Project, llmperf_compare: Compare) -> None:
    Path("config.yaml").write_text("perf: {tolerance: lots}\n")
    status, _, err = llmperf_compare("HEAD~1", "HEAD")
    assert status == 2
    assert "config.yaml:1: perf.tolerance" in err


def test_what_only_a_measuring_session_can_do_is_not_advised(
    project: Project, llmperf_compare: Compare
) -> None:
    project.base(2)
    project.record(11)
    project.record(12, tests=(LONG,))
    project.commit()
    for words in (("HEAD~1", "HEAD"), ("--tolerance", "50%", "HEAD~1", "HEAD")):
        out = llmperf_compare(*words).out
        assert "--llmperf-strict" not in out
        assert "--llmperf-accept" not in out
        assert "--llmperf-against-config" not in out


@pytest.mark.parametrize("columns", ["40", "60", "80", "200"])
def test_text_fits_the_terminal(
    slower: Project,
    llmperf_compare: Compare,
    columns: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = llmperf_compare("HEAD~1", "HEAD").out
    words = max(len(word) for word in out.split())
    assert max(map(len, out.splitlines())) <= max(min(int(columns), 100), words + 6)


def _run(stdout: object, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _RUN, "HEAD~1", "HEAD"],
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        text=True,
        timeout=60,
        check=False,
    )
