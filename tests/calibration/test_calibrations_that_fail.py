"""``llmperf calibrate`` when something is wrong: reported early, and no measurement lost."""

from __future__ import annotations

import json
import sys

import pytest

COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "calibrate")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep messages from being broken into lines."""
    monkeypatch.setenv("COLUMNS", "1000")


IMPOSSIBLE = """
import pytest

@pytest.mark.first_token(percentile=95)
def test_too_short(llm_engine):
    llm_engine.generate("Hi", max_tokens=4)
"""


def calibrations(project: pytest.Pytester) -> list[str]:
    return [path.name for path in project.path.glob("perf_baselines/*/calibrations/*.json")]


def test_a_test_that_cannot_be_measured_ends_it_after_one_session(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(test_toy=IMPOSSIBLE)
    result = project.run(*COMMAND, "--sessions", "3", timeout=120)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*session 1/3: 1 error*",
            "error: first token p95 needs at least 8 groups of 100 values*",
            "*stopped in session 1, nothing was stored: test_toy.py::test_too_short*",
            "FAILED test_toy.py::test_too_short - error: *",
        ]
    )
    assert "session 2/3" not in result.stdout.str()
    assert calibrations(project) == []


def test_tests_that_can_be_measured_do_not_fail_with_one_that_cannot(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(test_two=IMPOSSIBLE)
    result = project.run(*COMMAND, "--sessions", "1", timeout=120)
    result.assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "no/such/x.json"], "*--json *x.json: there is no folder */no/such"),
        (["--json", "."], "*--json *: is a folder; name a file"),
        (["--", "--llmperf-record"], "*--llmperf-record can't be used with llmperf calibrate*"),
        (
            ["--", "--llmperf-accept", "why"],
            "*--llmperf-accept can't be used with llmperf calibrate*",
        ),
        (["--", "--llmperf-json", "x.json"], "*--llmperf-json can't be used with*--json FILE*"),
        (
            ["--", "--llmperf-against-config", "config.yaml"],
            "*--llmperf-against-config can't be used with llmperf calibrate*",
        ),
    ],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(
    project: pytest.Pytester, arguments: list[str], message: str
) -> None:
    project.makepyfile(toy="import pathlib\npathlib.Path('started').touch()")
    result = project.run(*COMMAND, "--sessions", "1", *arguments, timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not project.path.joinpath("started").exists()


def test_a_json_file_that_cannot_be_written_loses_no_calibration(
    few_pairs: pytest.Pytester,
) -> None:
    # The path becomes a folder only while the calibration runs.
    few_pairs.makepyfile(
        test_toy="""
        import pathlib, pytest

        @pytest.mark.perf
        def test_short(llm_engine):
            llm_engine.generate("Hi", max_tokens=16)
            pathlib.Path("out.json").mkdir()
        """
    )
    result = few_pairs.run(*COMMAND, "--sessions", "1", "--json", "out.json", timeout=120)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*stored in*", "*can't write *out.json: it is a folder*"])
    assert len(calibrations(few_pairs)) == 1


#: The calibrations' folder becomes a file while this application is measured.
BREAKING = """
import pathlib, shutil

def answer(prompt, max_tokens=4):
    with open("calls", "a") as calls:
        calls.write("x")
        count = calls.tell()
    for folder in pathlib.Path.cwd().glob("perf_baselines/*/calibrations"):
        if count == 3:
            shutil.rmtree(folder)
            folder.touch()
    yield from ["word"] * max_tokens
"""


def test_a_calibration_that_cannot_be_stored_is_refused_or_written_to_the_json_file(
    project_with_calibration: pytest.Pytester,
) -> None:
    """It is refused if known before, and written to the JSON file if it happens meanwhile."""
    project_with_calibration.makepyfile(toy=BREAKING)
    result = project_with_calibration.run(
        *COMMAND, "--sessions", "1", "--json", "out.json", timeout=120
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*written to*out.json*", "*the calibration could not be*"])
    assert json.loads(project_with_calibration.path.joinpath("out.json").read_text())["checks"]
    result = project_with_calibration.run(
        *COMMAND, "--sessions", "1", "--json", "out.json", timeout=120
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: llmperf: perf.baselines: */calibrations is a file, not*"])
