"""``--llmperf-require-baseline``: tests known to lack a baseline fail before they cost time."""

from __future__ import annotations

import pytest
from plugin_projects import all_output

TESTS = """
@pytest.mark.end_to_end(tolerance="99%")
def test_old(llm_engine):
    llm_engine.generate("a", max_tokens=4)
"""
NEW = """
@pytest.mark.tokens_per_sec
@pytest.mark.end_to_end
@pytest.mark.parametrize("words", [2])
def test_new(llm_engine, words):
    llm_engine.generate("a", max_tokens=words)

@pytest.mark.skip(reason="not today")
@pytest.mark.perf
def test_skipped(llm_engine): pass

@pytest.mark.roofline(min="1%")
def test_needs_none(llm_engine):
    llm_engine.generate("a", max_tokens=4)
"""
REQUIRED = ("-m", "perf", "--llmperf-require-baseline")


@pytest.fixture
def recorded(project):
    """A project with a stored session of its only test; ``was_loaded`` is reset."""
    project.write(test_it=TESTS)
    project.perf("--llmperf-record")
    project.path.joinpath("loaded").unlink()
    return project


def test_with_nothing_recorded_no_model_is_loaded(project):
    project.write(test_it=TESTS + NEW)
    result = project.here(*REQUIRED, "--llmperf-exit-codes", "-k", "old or new or skipped")
    result.assert_outcomes(failed=2, skipped=1, deselected=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    folder = project.path / "perf_baselines"
    assert f"end to end: nothing is recorded in {folder} --llmperf" in all_output(result)
    result.stdout.fnmatch_lines(
        [
            "no baseline: end to end: nothing is recorded in*",
            "    --llmperf-require-baseline is set, so this test was not run",
            "    *pytest -m perf test_it.py::test_old --llmperf-record",
            "no baseline: tokens/s and end to end: nothing is recorded in*",
        ]
    )
    result.stdout.no_fnmatch_line("llmperf: measuring*")
    assert not project.was_loaded


def test_what_has_a_baseline_or_needs_none_is_measured(recorded):
    recorded.write(test_it=TESTS + NEW)
    result = recorded.here(*REQUIRED, "--llmperf-json", "out.json")
    result.assert_outcomes(passed=1, failed=2, skipped=1)
    result.stdout.fnmatch_lines(
        ["no baseline: tokens/s and end to end: no session recorded on this machine contains this*"]
    )
    assert recorded.verdicts() == {"test_old": "pass", "test_needs_none": "error"}


def test_another_machine_is_known_before_loading(recorded):
    recorded.edit_baseline(lambda record: record["machine"]["strict"].update({"usable cores": 96}))
    recorded.move_baseline("another-machine_cpu")
    result = recorded.here(*REQUIRED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["no baseline: end to end: the nearest is another-machine_cpu: *"])
    assert not recorded.was_loaded


def test_another_model_is_known_before_loading(recorded):
    recorded.edit_baseline(lambda record: record["model"].update(name="toy:other"))
    recorded.here(*REQUIRED).stdout.fnmatch_lines(["no baseline: end to end: *toy:other*"])
    assert not recorded.was_loaded


def test_where_only_the_engine_knows_the_machine_any_session_of_the_test_counts(
    recorded, monkeypatch
):
    """As with GPUs that NVML does not see."""
    monkeypatch.setattr(
        "pytest_llmperf.plugin.required_baselines.machine_before_loading", lambda _: None
    )
    recorded.write(test_it=TESTS + NEW)
    result = recorded.here(*REQUIRED, "-k", "old or new")
    result.assert_outcomes(passed=1, failed=1, deselected=2)


def test_a_session_that_records_one_is_measured(project):
    project.write(test_it=TESTS)
    project.here(*REQUIRED, "--llmperf-record").assert_outcomes(failed=1)
    assert len(project.baselines()) == 1
