"""pytest's own options do with perf tests what pytest's users expect."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

THREE = """
@pytest.mark.perf
def test_one(llm_engine):
    llm_engine.generate("a")

@pytest.mark.perf
def test_two(llm_engine):
    assert llm_engine.generate("b").text == "something else"

@pytest.mark.perf
def test_three(llm_engine):
    llm_engine.generate("c")
"""

SLOW = """
@pytest.mark.end_to_end(max="1us")
def test_slow(llm_engine):
    llm_engine.generate("a")

@pytest.mark.end_to_end(max="9s")
def test_fast(llm_engine):
    llm_engine.generate("b")
"""


def test_x_stops_at_a_failing_body_and_says_what_was_not_measured(project):
    project.write(test_it=THREE)
    result = project.here("-m", "perf", "-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["llmperf: not measured, because the session stopped before: test_it.py::test_one"]
    )
    result.stdout.no_fnmatch_line("*measuring*")


def test_maxfail_that_is_not_reached_measures_the_rest(project):
    project.write(test_it=THREE)
    project.perf("--maxfail=2").assert_outcomes(passed=2, failed=1)
    assert project.verdicts() == {"test_one": "no baseline", "test_three": "no baseline"}


def test_x_reports_every_verdict_that_was_measured(project):
    project.write(test_it=SLOW)
    project.perf("-x").assert_outcomes(passed=1, failed=1)


def test_lf_runs_the_test_whose_verdict_failed(project):
    project.write(test_it=SLOW)
    project.perf()
    project.perf("--lf").assert_outcomes(failed=1)


def test_lf_does_not_forget_a_test_that_was_not_measured(project):
    project.write(test_it=SLOW)
    project.perf()
    project.write(test_it=SLOW + "\n@pytest.mark.perf\ndef test_zero(): assert False\n")
    project.here("-m", "perf", "-x")
    project.perf("--lf").assert_outcomes(failed=2)


def test_works_without_the_cache(project):
    project.write(test_it=SLOW)
    project.perf("-p", "no:cacheprovider").assert_outcomes(passed=1, failed=1)


def test_works_without_a_terminal(project):
    project.write(test_it=SLOW)
    result = project.run("-m", "perf", "-p", "no:terminal", "--llmperf-json", "out.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.verdicts() == {"test_slow": "missed", "test_fast": "no baseline"}


def test_setup_show_shows_the_engine(one_test):
    result = one_test.perf("--setup-show")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "SETUP *llm_engine*",
            "*test_it.py::test_answer*llm_engine*",
            "TEARDOWN *",
            "llmperf: measuring 1 test*",
        ]
    )


def test_setup_only_measures_nothing(one_test):
    result = one_test.here("-m", "perf", "--setup-only")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*measuring*")


def test_setup_plan_loads_nothing(one_test):
    assert one_test.here("-m", "perf", "--setup-plan").ret == 0
    assert not one_test.was_loaded


def test_the_cost_is_told_before_measuring(one_test):
    one_test.here("-m", "perf").stdout.fnmatch_lines(
        [
            "llmperf: measuring 1 test, at least 1 process each, * to 10 min",
            "*LLM performance*",
        ]
    )


def test_q_keeps_the_counts_and_what_is_not_fine(project):
    project.write(test_it=SLOW)
    result = project.here("-m", "perf", "-q")
    result.stdout.no_fnmatch_line("llmperf: measuring*")
    result.stdout.fnmatch_lines(["*LLM performance*", "test_it.py::test_slow*", "2 tests, *"])
    result.stdout.no_fnmatch_line("test_it.py::test_fast*")


def test_v_names_each_body_and_each_outcome(one_test):
    one_test.here("-m", "perf", "-v").stdout.fnmatch_lines(
        ["llmperf: recording test_it.py::test_answer", "test_it.py::test_answer PASSED*"]
    )


@pytest.mark.usefixtures("quiet_machine")
@pytest.mark.parametrize(
    ("option", "failure", "table"),
    [("-ra", 1, 0), ("-q", 1, 0), ("-v", 1, 1), ("--tb=no", 0, 1)],
)
def test_a_failure_is_explained_once_and_with_v_in_the_table_too(project, option, failure, table):
    project.write(test_it=SLOW)
    output = project.here("-m", "perf", option).stdout.str()
    above, _, below = output.partition("= LLM performance =")
    assert above.count("\nmissed: end to end: target missed by") == failure
    assert below.count("\n  missed end to end: target missed by") == table
    assert below.count("explained above, in its failure") == (not table)


@pytest.mark.usefixtures("quiet_machine")
def test_what_is_no_failure_of_pytest_is_explained_in_the_table(project):
    project.write(test_it="@pytest.mark.xfail\n" + SLOW.lstrip())
    result = project.here("-m", "perf")
    result.assert_outcomes(xfailed=1, passed=1)
    assert result.stdout.str().count("  missed end to end: target missed by") == 1


@pytest.mark.parametrize(
    ("style", "shown"),
    [("short", True), ("long", True), ("native", True), ("line", True), ("no", False)],
)
def test_tb_styles_never_show_a_traceback_for_a_verdict(project, style, shown):
    project.write(test_it=SLOW)
    result = project.here("-m", "perf", f"--tb={style}", "-r", "")
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    failure = [
        line
        for line in result.outlines
        if line.startswith(("missed: end to end:", "test_it.py:3: missed:"))
    ]
    assert bool(failure) is shown


def test_the_short_summary_says_the_verdict(project):
    project.write(test_it=SLOW)
    project.here("-m", "perf").stdout.fnmatch_lines(
        ["FAILED test_it.py::test_slow - missed: end to end: target missed by *"]
    )


def test_captured_output_of_a_body_is_shown_with_its_verdict(project):
    project.write(
        test_it="""
        @pytest.mark.end_to_end(max="1us")
        def test_x(llm_engine):
            print("the body said this")
            llm_engine.generate("a")
        """
    )
    project.here("-m", "perf").stdout.fnmatch_lines(
        ["*Captured stdout call*", "the body said this"]
    )


def test_junit_holds_verdicts_and_metrics_once(project):
    project.write(test_it=SLOW)
    project.here("-m", "perf", "--junitxml", "junit.xml")
    root = ElementTree.parse(project.path / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    properties = [(p.get("name"), p.get("value")) for p in cases["test_fast"].iter("property")]
    names = [name for name, _ in properties]
    assert len(names) == len(set(names))
    values = dict(properties)
    assert values["llmperf.verdict"] == "no baseline"
    assert float(values["llmperf.end_to_end"]) > 0
    assert values["llmperf.end_to_end.limit"] == "9"
    assert values["llmperf.end_to_end.unit"] == "s"
    failure = cases["test_slow"].find("failure")
    assert failure is not None
    assert failure.get("message", "").startswith("missed: end to end: target missed")


def test_durations_are_those_of_the_bodies(one_test):
    result = one_test.here("-m", "perf", "--durations=3", "-vv")
    result.stdout.fnmatch_lines(["*s call * test_it.py::test_answer"])


def test_stepwise_starts_at_the_test_whose_verdict_failed(project):
    project.write(test_it=SLOW)
    project.perf("--stepwise")
    project.perf("--stepwise", "--stepwise-skip").assert_outcomes(passed=1, failed=1)


def test_pytest_exit_in_a_body_ends_the_session(project):
    project.write(
        test_it="""
        @pytest.mark.perf
        def test_one(llm_engine):
            llm_engine.generate("a")

        @pytest.mark.perf
        def test_two(llm_engine):
            pytest.exit("enough")
        """
    )
    result = project.here("-m", "perf")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["llmperf: not measured*test_it.py::test_one"])
