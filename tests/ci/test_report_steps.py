"""The steps that show a session: the page once, and annotations on the project's own files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ci_files import ACTION, GITLAB, bash, environment, gitlab_script, read_yaml, step

from pytest_llmperf.report.json_report import write_json
from pytest_llmperf.session.recorded import Location

sys.path.append(str(Path(__file__).parents[1] / "report"))
from report_sessions import session, short_answer

FILE = "tests/test_chat.py"


@pytest.fixture
def clone(repository: Path, init: Callable[..., int]) -> Path:
    """A repository with a project in a folder, and the session that a job measured there."""
    (repository / "app" / "tests").mkdir(parents=True)
    (repository / "app" / FILE).write_text("def test_short_answer(): ...\n")
    failed = replace(short_answer(1.3), location=Location(FILE, 1))
    write_json(repository / "report" / "session.json", session(failed))
    assert init("github") == 0
    assert init("gitlab") == 0
    return repository


def run_report(clone: Path, project: str = ".", **variables: str | Path) -> str:
    """Run the action's step Report for the project in a folder; return what it prints."""
    report = step(read_yaml(clone / ACTION), "Report")
    environ = environment(
        LLMPERF_VENV=sys.prefix,
        REPORT=clone / "report",
        GITHUB_STEP_SUMMARY=clone / "summary.md",
        **variables,
    )
    folder = clone / str(report["working-directory"]).replace("${{ inputs.project }}", project)
    done = bash(report["run"], folder, environ)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_an_action_s_page_is_in_the_summary_once(clone: Path) -> None:
    printed = run_report(clone, "app", NAME="cpu", GITHUB_WORKSPACE=clone)
    assert printed.startswith(f"::error file=app/{FILE},line=1,")
    page = (clone / "report" / "comment.md").read_text()
    assert page.startswith("### llmperf: regressed")
    assert (clone / "summary.md").read_text() == page


def test_a_page_is_no_longer_than_the_comment_may_be(clone: Path) -> None:
    """The commenting workflow would cut off a longer page in the middle of a table."""
    tests = [
        replace(short_answer(1.3), nodeid=f"{FILE}::test_{number}", location=Location(FILE, 1))
        for number in range(200)
    ]
    write_json(clone / "report" / "session.json", session(*tests))
    run_report(clone, NAME="cpu")
    page = (clone / "report" / "comment.md").read_text()
    assert 25_000 < len(page) <= 30_000
    assert page.rstrip().endswith("</details>")


def test_a_session_that_measured_nothing_says_so_in_the_summary(clone: Path) -> None:
    (clone / "report" / "session.json").unlink()
    run_report(clone, NAME="gpu")
    summary = (clone / "summary.md").read_text()
    assert summary == "Nothing was measured (gpu): the log says why.\n"
    assert (clone / "report" / "comment.md").read_text() == summary


def test_gitlab_s_findings_name_files_from_the_repository_s_top(clone: Path) -> None:
    script = gitlab_script(read_yaml(clone / GITLAB), ".llmperf", "Report", "after_script")
    cache = clone / ".llmperf"
    (cache / "ci").mkdir(parents=True)
    (cache / "ci" / "venv-1").symlink_to(sys.prefix)
    environ = environment(
        CI_PROJECT_DIR=clone,
        LLMPERF_CACHE_DIR=cache,
        LLMPERF_PROJECT="app",
        REPORT=clone / "report",
    )
    done = bash(script, clone, environ)
    assert done.returncode == 0, done.stdout
    (finding,) = json.loads((clone / "report" / "codequality.json").read_text())
    assert finding["location"]["path"] == f"app/{FILE}"


def test_arguments_of_several_lines_all_count(clone: Path) -> None:
    script = str(step(read_yaml(clone / ACTION), "Measure")["run"])
    (line,) = [line for line in script.splitlines() if "PYTEST_ARGS" in line]
    environ = environment(PYTEST_ARGS="tests/perf\n-k chat\n")
    done = bash(f'{line}\nprintf "<%s>" "${{more[@]}}"', clone, environ)
    assert done.stdout == "<tests/perf><-k><chat>"
