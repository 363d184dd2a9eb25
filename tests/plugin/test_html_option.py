"""``--llmperf-html``: a session's page, and the errors that keep it from being written."""

from __future__ import annotations

import subprocess

import pytest
from plugin_projects import all_output

from pytest_llmperf.report.html import write_html

TWO = """
@pytest.mark.end_to_end(max="9s")
def test_answer(llm_engine):
    llm_engine.generate("hello", max_tokens=6)

@pytest.mark.end_to_end(max="1us")
def test_late(llm_engine):
    llm_engine.generate("hello you", max_tokens=6)
"""


@pytest.fixture
def recorded(project, quiet_machine):
    """The project in a repository, with one recorded session of its tests."""
    project.write(test_it=TWO)
    for command in (
        ("init", "-q"),
        ("add", "-A"),
        ("-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-qm", "first"),
    ):
        subprocess.run(["git", *command], cwd=project.path, check=True)
    project.here("-m", "perf", "--llmperf-record")
    return project


def test_a_session_and_its_json_report_give_the_same_page(recorded):
    result = recorded.perf("--llmperf-html", "deep.html", "--llmperf-html-samples", "-k", "test_")
    result.assert_outcomes(passed=1, failed=1)
    page = (recorded.path / "deep.html").read_text()
    write_html(recorded.path / "out.json", recorded.path / "again.html", samples=True)
    assert (recorded.path / "again.html").read_text() == page

    report = recorded.session()
    session = report["session"]
    assert session["command"].endswith(
        "-m perf --llmperf-json out.json --llmperf-html deep.html --llmperf-html-samples -k test_"
    )
    assert session["provenance"]["engine"] == "app"
    assert len(session["provenance"]["commit"]) == 40
    assert len(session["history"]["sessions"]) == 1
    assert session["history"]["problem"] is None
    answer, late = report["tests"]
    assert (late["verdict"], late["command"].split()[-1]) == ("missed", "test_it.py::test_late")
    (metric,) = [m for m in late["metrics"] if m["name"] == "end_to_end"]
    assert metric["progress"]["against"] == "target"
    assert metric["progress"]["differences"][0] > 1
    assert (metric["history"]["sessions"], len(metric["history"]["values"])) == ([0], 1)
    assert {shown["picked"] for shown in answer["timelines"]} == {"typical", "slowest"}
    for shown in answer["timelines"]:
        assert (len(shown["gaps"]), len(shown["first_tokens"]), shown["requests"]) == (5, 1, [0])
        assert sum(shown["gaps"]) + shown["first_tokens"][0] == pytest.approx(shown["seconds"])
    assert "target missed by" in page


def test_a_session_that_records_is_no_earlier_session_of_itself(recorded):
    recorded.perf("--llmperf-record")
    session = recorded.session()["session"]
    assert session["recorded_to"] is not None
    assert len(session["history"]["sessions"]) == 1


def test_places_that_cannot_be_written_are_named_before_a_model_loads(one_test):
    for arguments, message in (
        (["--llmperf-html", "."], "*--llmperf-html *is a folder*"),
        (["--llmperf-html", "no/such/x.html"], "*--llmperf-html *there is no folder *no/such"),
        (["--llmperf-html-samples"], "*there is no page without --llmperf-html FILE"),
        (
            ["--llmperf-html", "x", "--llmperf-json", "x"],
            "*--llmperf-json and --llmperf-html name the same file*",
        ),
    ):
        result = one_test.here("-m", "perf", *arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: llmperf: {message}"])
    assert not one_test.was_loaded


def test_a_page_that_could_not_be_written_fails_the_session_and_keeps_its_verdicts(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_answer(llm_engine, pytestconfig):
            (pytestconfig.invocation_params.dir / "page.html").mkdir()
            llm_engine.generate("hello", max_tokens=4)
        """
    )
    result = project.here("-m", "perf", "--llmperf-html", "page.html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    said = all_output(result)
    assert "can't write the HTML report to" in said
    assert "page.html: it is a folder; give --llmperf-html a file name" in said
