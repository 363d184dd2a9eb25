"""``llmperf report``: what it reads, where it writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_outputs import Output
from report_variants import case, check, of_verdicts, variant

from pytest_llmperf.report.comparison import refusal_json
from pytest_llmperf.report.forms.registry import FORMS

Report = Callable[..., Output]
EVERY = [[f"--{form.option}", *form.choices[:1]] for form in FORMS]
NUMBERS = [["--markdown"], ["--bmf"], ["--github-action-benchmark", "bigger"], ["--openmetrics"]]


@pytest.mark.parametrize("words", EVERY, ids=lambda words: words[0])
def test_every_form_of_a_real_session_is_written(
    real_folder: Path, report: Report, tmp_path: Path, words: list[str]
) -> None:
    path = real_folder / "session.json"
    status, out, _ = report(path, *words)
    assert status == 0
    assert out
    folder = tmp_path / "not there" / "yet"
    assert report(path, *words, "-o", str(folder / "file")).status == 0
    assert (folder / "file").read_text()


def test_a_page_for_a_browser_is_the_one_of_the_session(
    real_folder: Path, report: Report, tmp_path: Path
) -> None:
    path = real_folder / "session.json"
    assert report(path, "--html", str(tmp_path / "new" / "page.html")) == (0, "", "")
    assert "test_met" in (tmp_path / "new" / "page.html").read_text()
    refused = report(path, "--html", str(path))
    assert (refused.status, "is the report itself" in refused.err) == (1, True)
    assert "does not go with --html" in report(path, "--html", "x", "-o", "y").err
    (record,) = real_folder.glob("perf_baselines/*/*.json")
    assert report(record, "--html", str(tmp_path / "no.html")).status == 2
    assert report(tmp_path / "none.json", "--html", "x").status == 2
    (tmp_path / "file").touch()
    status, out, err = report(path, "--html", str(tmp_path / "file" / "page.html"))
    assert (status, out, "--html" in err) == (1, "", True)


def test_exactly_one_form_is_asked_for(real: dict[str, Any], report: Report) -> None:
    assert report(real).status == 2
    assert "not allowed with argument" in report(real, "--junit", "--bmf").err
    assert report(real, "--github-action-benchmark").status == 2
    assert "goes with --github only" in report(real, "--junit", "--github-comment", "x").err


@pytest.mark.parametrize("words", NUMBERS, ids=lambda words: words[0])
def test_a_stored_session_has_the_forms_of_numbers(
    real_folder: Path, report: Report, words: list[str]
) -> None:
    (record,) = real_folder.glob("perf_baselines/*/*.json")
    status, out, err = report(record, *words)
    assert (status, err) == (0, "")
    assert "test" in out
    if words == ["--markdown"]:
        assert out.startswith("### llmperf: not judged (3 tests)\n")
        assert "A recorded session: it has measurements and no verdicts." in out


@pytest.mark.parametrize("option", ["--junit", "--github", "--gitlab"])
def test_a_stored_session_has_no_verdicts_to_show(
    real_folder: Path, report: Report, option: str
) -> None:
    (record,) = real_folder.glob("perf_baselines/*/*.json")
    status, out, err = report(record, option)
    assert (status, out) == (2, "")
    assert f"a stored session has measurements and no verdicts, so {option} has nothing" in err


def test_what_is_no_report_is_refused(tmp_path: Path, report: Report) -> None:
    def refusal(content: str) -> str:
        (tmp_path / "it.json").write_text(content)
        status, out, err = report(tmp_path / "it.json", "--junit")
        assert (status, out) == (2, "")
        assert err.startswith(f"llmperf: {tmp_path / 'it.json'}")
        return err

    assert "there is no such file" in report(tmp_path / "gone.json", "--junit").err
    assert report(tmp_path, "--junit").status == 2
    assert "empty" in refusal("")
    broken = refusal('{"schema": 1, "tests": [')
    assert "not JSON" in broken
    # Any file may be named by mistake.
    assert "delete" not in broken
    assert "git checkout" not in broken
    assert "name a report; to write one: pytest -m perf --llmperf-json FILE" in broken
    assert "not a report of a session: schema: got None" in refusal("[]")
    assert "not a report of a session: session: missing" in refusal('{"schema": 1}')
    newer = refusal('{"schema": 2}')
    assert "written by a newer plugin (schema 2; this one reads up to 1)" in newer
    assert "pip install --upgrade pytest-llmperf" in newer


def test_what_is_damaged_is_named(real: dict[str, Any], report: Report) -> None:
    def refusal(**changed: Any) -> str:
        test = case(real, "t.py::t", check(**changed))
        status, out, err = report(variant(real, test), "--markdown")
        assert (status, out) == (2, "")
        return err

    assert "tests[0].metrics[0].verdict: expected error, invalid" in refusal(verdict="fine")
    assert "tests[0].metrics[0].unit: expected tok/s, /s, s" in refusal(unit="parsec")
    assert "tests[0].metrics[0].value: expected a number, got '1'" in refusal(value="1")
    assert "tests[0].metrics[0].low: expected a number, got None" not in refusal(low="x")


def test_an_empty_session_is_refused(real: dict[str, Any], report: Report) -> None:
    for words in EVERY:
        status, out, err = report(variant(real), *words)
        assert (status, out) == (2, "")
        assert "the session measured no test, so there is nothing to show" in err


def test_a_refused_comparison_is_no_report(tmp_path: Path, report: Report) -> None:
    (tmp_path / "it.json").write_text(json.dumps(refusal_json("a", "b", "other machines")))
    status, _, err = report(tmp_path / "it.json", "--junit")
    assert (status, "its two sides could not be compared: other machines" in err) == (2, True)


def test_the_report_itself_is_not_overwritten(
    real: dict[str, Any], report: Report, tmp_path: Path
) -> None:
    status, _, err = report(real, "--junit", "-o", "session.json")
    assert (status, "that is the report itself" in err) == (1, True)
    assert json.loads((tmp_path / "session.json").read_text()) == real


def test_a_file_that_cannot_be_written_is_named(
    real: dict[str, Any], report: Report, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = report(real, "--junit", "-o", "file/out.xml")
    assert status == 1
    assert "the report can't be written to file/out.xml" in err


def test_tests_that_were_not_measured_are_in_the_report(real: dict[str, Any]) -> None:
    wrong, skipped = real["unmeasured"]
    assert wrong["nodeid"] == "tests/test_real.py::test_wrong_answer"
    assert wrong["outcome"] == "failed"
    assert wrong["reason"].startswith("AssertionError: assert ")
    assert wrong["location"] == {"file": "tests/test_real.py", "line": 21}
    assert (skipped["outcome"], skipped["reason"]) == ("skipped", "not today")
    assert [test["location"]["line"] for test in real["tests"]] == [5, 10, 16]


def test_a_huge_report_is_shown(real: dict[str, Any], report: Report) -> None:
    samples = [[0.412345678901, 0.42345678901, 0.43456789012]] * 40
    metrics = [
        check(name, samples=samples, base_samples=samples)
        | {"name": f"metric_{number}", "verdict": name}
        for number, name in enumerate(("regressed", "pass", "inconclusive", "pass", "pass", "pass"))
    ]
    tests = [case(real, f"tests/test_{n}.py::test_x[{n}]", *metrics) for n in range(200)]
    path = Path("huge.json")
    path.write_text(json.dumps(variant(real, *tests), indent=2))
    for words in EVERY:
        assert report(path, *words, "-o", "out").status == 0


def test_verdicts_do_not_decide_the_exit_status(real: dict[str, Any], report: Report) -> None:
    for words in EVERY:
        assert report(of_verdicts(real, "error", "regressed"), *words).status == 0
