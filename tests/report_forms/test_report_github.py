"""A session in GitHub Actions: annotations, the step's summary, and a comment."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_outputs import Output
from report_variants import HOSTILE, case, check, of_verdicts, variant

from pytest_llmperf.report.forms.github import MAX_SUMMARY

Report = Callable[..., Output]
#: A workflow command as the runner reads it: up to the end of the line.
COMMAND = re.compile(r"^::(error|warning) ((?:\w+=[^,:\r\n]*,?)+)::([^\r\n]*)$")
UNESCAPED = {"%25": "%", "%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ","}


def plain(text: str) -> str:
    return re.sub("%(?:25|0D|0A|3A|2C)", lambda match: UNESCAPED[match[0]], text)


def commands(out: str) -> list[tuple[str, dict[str, str], str]]:
    """Return level, properties and message of every command, as the runner reads them."""
    parsed = []
    for line in out.splitlines():
        match = COMMAND.match(line)
        assert match, line
        pairs = (pair.split("=", 1) for pair in match[2].split(","))
        parsed.append((match[1], {key: plain(value) for key, value in pairs}, plain(match[3])))
    return parsed


def test_a_failing_tests_line_is_annotated(real: dict[str, Any], report: Report) -> None:
    found = commands(report(real, "--github").out)
    assert [(level, about["file"], about["line"], about["title"]) for level, about, _ in found] == [
        ("error", "tests/test_real.py", "10", "llmperf: missed"),
        ("error", "tests/test_real.py", "21", "llmperf: not measured"),
        ("warning", "tests/test_real.py", "16", "llmperf: no baseline"),
        ("warning", "tests/test_real.py", "26", "llmperf: not measured"),
    ]
    message = found[0][2]
    assert message.startswith(f"{real['tests'][1]['nodeid']}: missed: first token: target missed")


def test_a_command_is_one_line_whatever_the_names(real: dict[str, Any], report: Report) -> None:
    tests = [
        case(real, f"test_x.py::test_x[{name}]", check("regressed", claim=f"{name}\n::error::"))
        for name in HOSTILE[-9:]
    ]
    tests[0]["location"] = {"file": "a:b,c%25\n.py", "line": 3}
    annotated = commands(report(variant(real, *tests), "--github").out)
    assert len(annotated) == 9
    assert annotated[0][1]["file"] == "a:b,c%25\\n.py"


def test_at_most_ten_are_made_and_the_rest_is_counted(real: dict[str, Any], report: Report) -> None:
    ten = commands(report(of_verdicts(real, *["regressed"] * 10), "--github").out)
    assert len(ten) == 10
    many = of_verdicts(real, *["inconclusive"] * 5, *["regressed"] * 12)
    annotated = commands(report(many, "--github").out)
    assert len(annotated) == 10
    assert {level for level, _, _ in annotated} == {"error"}
    assert annotated[-1][2] == "8 more tests like these: the job's summary has them"


def test_nothing_is_annotated_where_all_passed(real: dict[str, Any], report: Report) -> None:
    assert report(of_verdicts(real, "pass", "improved"), "--github").out == ""


def test_the_file_is_found_from_the_top_of_the_repository(
    real: dict[str, Any], report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "services" / "chat"
    (project / "tests").mkdir(parents=True)
    (project / "tests" / "test_real.py").write_text("")
    monkeypatch.chdir(project)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    annotated = commands(report(real, "--github").out)
    assert annotated[0][1]["file"] == "services/chat/tests/test_real.py"


def test_the_page_is_added_to_the_steps_summary(
    real: dict[str, Any], report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = report(real, "--markdown").out
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert report(real, "--github").err == ""
    assert summary.read_text() == page
    report(real, "--github")
    assert summary.read_text() == f"{page}\n{page}"
    summary.unlink()
    many = of_verdicts(real, *["regressed"] * 200)
    report(many, "--github", "--max-chars", "5000")
    assert summary.read_text() == report(many, "--markdown", "--max-chars", "5000").out
    # A summary of more than 1 MiB would be dropped as a whole.
    summary.write_text("x" * (MAX_SUMMARY - 100))
    status, _, err = report(real, "--github")
    assert (status, summary.stat().st_size) == (0, MAX_SUMMARY - 100)
    assert "the step's summary is full (1 MiB)" in err
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    status, _, err = report(real, "--github")
    assert (status, "can't be added to the step's summary" in err) == (1, True)


def test_the_page_can_go_into_a_file(
    real: dict[str, Any], report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no page was written: GITHUB_STEP_SUMMARY is not set" in report(real, "--github").err
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    report(real, "--github", "-o", "page.md")
    assert (tmp_path / "page.md").read_text().startswith("### llmperf: missed (")
    assert not (tmp_path / "summary.md").exists()


def test_a_comment_has_a_marker_to_find_it_by(
    real: dict[str, Any], report: Report, tmp_path: Path
) -> None:
    def first_line(data: dict[str, Any]) -> str:
        report(data, "--github", "--github-comment", "comment.md")
        mark, _, page = (tmp_path / "comment.md").read_text().partition("\n")
        assert page.startswith("### llmperf: ")
        assert page.count("<!-- pytest-llmperf") == 0
        assert len(mark) + 1 + len(page) <= 60_000
        return mark

    mark = first_line(real)
    assert re.fullmatch("<!-- pytest-llmperf [0-9a-f]{12} -->", mark)
    assert first_line(of_verdicts(real, *["regressed"] * 900)) == mark
    # Another job of the matrix has a comment of its own.
    other = variant(real, case(real, "t.py::t", check()), machine="other --> <b>", model="@m")
    assert re.fullmatch("<!-- pytest-llmperf [0-9a-f]{12} -->", first_line(other))
    assert first_line(other) != mark


def test_a_file_s_name_may_be_longer_than_files_have(
    real: dict[str, Any], report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    name = "t" * 5000
    ((_, about, _),) = commands(
        report(
            variant(real, case(real, f"{name}::x", check("missed"), location=None)), "--github"
        ).out
    )
    assert about["file"] == name


def test_a_long_reason_is_cut_in_an_annotation(real: dict[str, Any], report: Report) -> None:
    failing = case(real, "t.py::x", check("missed", claim="x" * 50_000), causes=["cause"] * 50)
    ((_, _, message),) = commands(report(variant(real, failing), "--github").out)
    assert len(message) < 4096
    assert message.count("\n") == 9
