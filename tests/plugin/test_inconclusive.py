"""Inconclusive tests pass with a warning, or fail in strict mode."""

from __future__ import annotations

import pytest
from plugin_projects import APP, app_config

#: Tolerances far below the differences between the stored sessions: nothing can be proven.
UNPROVEN = """
@pytest.mark.end_to_end(tolerance="1%")
@pytest.mark.first_token(tolerance="1%")
def test_x(llm_engine):
    llm_engine.generate("a", max_tokens=4)
"""


@pytest.fixture
def undecided(project, quiet_machine, recording):
    """A project whose only test can't be decided from what is stored."""
    project.write(test_it=UNPROVEN)
    project.record_once(recording)
    project.store_sessions([0.2, 5])
    return project


def test_passes_with_one_warning(undecided):
    result = undecided.perf()
    result.assert_outcomes(passed=1, warnings=1)
    assert result.ret == 0
    assert undecided.verdicts() == {"test_x": "inconclusive"}
    result.stdout.fnmatch_lines(
        [
            "*warnings summary*",
            "test_it.py::test_x",
            "*LlmperfWarning: *first token: *",
        ]
    )


def test_the_warning_is_never_an_error(undecided):
    undecided.perf("-W", "error").assert_outcomes(passed=1, warnings=1)


def test_the_warning_needs_no_terminal(undecided):
    assert undecided.perf("-p", "no:terminal").ret == 0


@pytest.mark.parametrize("how", ["option", "configuration"])
def test_strict_fails_it(undecided, how):
    if how == "option":
        result = undecided.perf("--llmperf-strict")
    else:
        undecided.configure(APP + "  strict: true\n")
        result = undecided.perf()
    result.assert_outcomes(failed=1, warnings=0)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["inconclusive: end to end: *"])


def test_has_an_exit_code_of_its_own_only_where_it_fails(undecided):
    assert undecided.perf("--llmperf-exit-codes").ret == 0
    assert undecided.perf("--llmperf-exit-codes", "--llmperf-strict").ret == 11


def test_a_test_that_fails_for_another_metric_does_not_warn(undecided):
    undecided.write(test_it=UNPROVEN.replace("end_to_end(", "end_to_end(max='1us', "))
    result = undecided.perf("--llmperf-set", "perf.processes=3")
    (test,) = undecided.session()["tests"]
    gated = {m["verdict"] for m in test["metrics"] if m["gated"]}
    assert gated == {"missed", "inconclusive"}
    result.assert_outcomes(failed=1, warnings=0)


def test_a_decided_test_does_not_warn(project, quiet_machine):
    project.configure(app_config("toy:steady"))
    project.write(test_it=UNPROVEN.replace("1%", "99%"))
    project.perf("--llmperf-record").assert_outcomes(passed=1, warnings=0)
    project.perf().assert_outcomes(passed=1, warnings=0)
