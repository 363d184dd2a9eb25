"""Verdicts from several stored sessions: how much they differ among themselves, and creeping."""

from __future__ import annotations

import json

import pytest
from plugin_projects import APP, all_output, app_config

TEST = """
@pytest.mark.end_to_end(tolerance="30%")
def test_x(llm_engine):
    llm_engine.generate("a", max_tokens=8)
"""


@pytest.fixture(autouse=True)
def _three_processes(project, quiet_machine):
    """Measure three processes, because fewer call nothing, on a machine that seems quiet."""
    project.configure(APP.replace("processes: 1", "processes: 3"))


@pytest.fixture
def recorded(project):
    """A project with one recorded session."""
    project.write(test_it=TEST)
    assert project.perf("--llmperf-record").ret == 0
    return project


def test_sessions_that_agree_call_a_slowdown(recorded):
    recorded.store_sessions([0.5] * 4)
    result = recorded.perf()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert recorded.metric()["verdict"] == "regressed"
    result.stdout.fnmatch_lines(["regressed: end to end: *% slower*"])


def test_sessions_that_differ_do_not_call_what_lies_among_them(recorded):
    recorded.store_sessions([0.4, 1.3, 0.4, 1.3])
    result = recorded.perf()
    assert result.ret == 0
    assert recorded.metric()["verdict"] == "inconclusive"


def test_one_session_is_not_enough_for_a_small_tolerance_and_says_so(project):
    project.write(test_it=TEST.replace("30%", "5%"))
    project.configure(app_config("toy:steady").replace("processes: 1", "processes: 4"))
    project.perf("--llmperf-record")
    project.store_sessions([0.94])
    result = project.perf()
    result.assert_outcomes(passed=1, warnings=1)
    assert project.metric()["verdict"] == "inconclusive"
    assert "1 stored session" in all_output(result)


def test_what_the_stored_sessions_can_decide_is_said_even_where_all_is_well(recorded):
    recorded.store_sessions([1.0] * 10)
    result = recorded.perf()
    assert recorded.metric()["verdict"] == "pass"
    said = all_output(result)
    assert "compared with 10 stored sessions of " in said


def test_creeping_is_regressed_and_named(recorded):
    # No step from session to session exceeds the tolerance.
    names = recorded.store_sessions([0.4, 0.4, 0.4, 0.5, 0.62, 0.78, 0.95])
    result = recorded.perf()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    metric = recorded.metric()
    assert metric["verdict"] == "regressed"
    assert metric["strategy"] == "anchor"
    said = all_output(result)
    assert "creeping" in said
    assert names[0] in said


def test_a_level_that_stays_does_not_creep(recorded):
    recorded.store_sessions([1.0, 1.02, 0.98, 1.0, 1.01, 0.99])
    assert recorded.perf().ret == 0
    assert recorded.metric()["verdict"] == "pass"


def test_an_accepted_level_is_no_creeping(recorded):
    names = recorded.store_sessions([0.4, 0.4, 0.4, 0.5, 0.62, 0.78, 0.95])
    path = recorded.path / "perf_baselines" / recorded.session()["session"]["machine"] / names[-1]
    record = json.loads(path.read_text())
    for test in record["tests"].values():
        test["accepted"] = "longer answers"
    path.write_text(json.dumps(record))
    assert recorded.perf().ret == 0
    assert recorded.metric()["verdict"] == "pass"
