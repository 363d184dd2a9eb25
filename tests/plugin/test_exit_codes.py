"""Exit codes: pytest's own, and those that tell CI why."""

from __future__ import annotations

import pytest
from plugin_projects import APP

OK = """
@pytest.mark.end_to_end(max="50s")
def test_ok(llm_engine):
    llm_engine.generate("a")
"""
MISSED = """
@pytest.mark.end_to_end(max="1us")
def test_missed(llm_engine):
    llm_engine.generate("b")
"""
BROKEN = """
@pytest.mark.perf
def test_broken(llm_engine):
    assert False
"""
#: More output each time: no replay does the work that was recorded.
VOID = """
@pytest.mark.perf
def test_void(llm_engine):
    llm_engine.generate("growing")
"""
GROWING = """
import pathlib

def answer(prompt):
    calls = pathlib.Path("calls")
    count = len(calls.read_text()) + 1 if calls.exists() else 1
    calls.write_text("x" * count)
    for number in range(count + 2 if prompt == "growing" else 4):
        yield f"word{number} "
"""
NO_TIME = APP.replace("processes: 1", "processes: 2") + "  budget: 1ms\n"


@pytest.mark.parametrize(
    ("tests", "code"),
    [
        (OK, 0),
        (OK + MISSED, 1),
        (OK + BROKEN, 1),
        (OK + VOID, 10),
        (VOID + MISSED, 1),
        (VOID + BROKEN, 1),
    ],
    ids=["ok", "missed", "broken body", "invalid", "invalid and missed", "invalid and broken"],
)
def test_the_worst_reason_decides(project, tests, code):
    project.pytester.makepyfile(toy=GROWING)
    project.write(test_it=tests)
    assert project.perf("--llmperf-exit-codes").ret == code


def test_inconclusive_has_a_code_of_its_own(project):
    project.configure(NO_TIME)
    project.write(test_it=OK)
    result = project.perf("--llmperf-exit-codes", "--llmperf-strict")
    assert project.verdicts() == {"test_ok": "inconclusive"}
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*raise perf.budget*"])


def test_invalid_wins_over_inconclusive_and_never_shows_as_regressed(project):
    project.pytester.makepyfile(toy=GROWING)
    project.write(test_it=VOID)
    project.perf()
    (test,) = project.session()["tests"]
    assert {m["verdict"] for m in test["metrics"] if m["gated"]} == {"invalid"}


@pytest.mark.parametrize("tests", [MISSED, VOID])
def test_without_the_option_every_failure_is_pytest_s(project, tests):
    project.pytester.makepyfile(toy=GROWING)
    project.write(test_it=tests)
    assert project.perf().ret == pytest.ExitCode.TESTS_FAILED


def test_no_tests_stays_pytest_s_own_code(project):
    project.write(test_it="def test_plain(): pass\n")
    result = project.here("-m", "perf", "--llmperf-exit-codes")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_failure_of_another_plugin_is_not_turned_green(project):
    project.write(mine="def unused():\n    return 1\n", test_it=f"import mine\n{OK}")
    result = project.run("-m", "perf", "--llmperf-exit-codes", "--cov=mine", "--cov-fail-under=99")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_missed_target_says_by_how_much_and_where_targets_stand(project):
    project.write(test_it=MISSED)
    result = project.here("-m", "perf")
    result.stdout.fnmatch_lines(
        [
            "missed: end to end: target missed by *: * must be at most 1 µs*",
            "recording does not change a target; it is set in the test's marker*",
        ]
    )


def test_a_target_of_the_configuration_is_enforced(one_test):
    one_test.configure(APP + "  targets: {tokens_per_sec: 1000000}\n")
    result = one_test.perf()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert one_test.verdicts() == {"test_answer": "missed"}


def test_the_json_report_holds_raw_samples(one_test):
    one_test.perf()
    (test,) = one_test.session()["tests"]
    shape = {m["name"]: [len(row) for row in m["samples"]] for m in test["metrics"]}
    assert shape["end_to_end"] == [3]


def test_a_report_that_cannot_be_written_in_the_end_is_no_success(project):
    project.write(
        test_it="""
        import pathlib

        @pytest.mark.perf
        def test_x(llm_engine):
            llm_engine.generate("a")
            pathlib.Path("out.json").mkdir()
        """
    )
    result = project.perf()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*LLM performance*", "llmperf: can't write the JSON report*"])


def test_nothing_to_report_is_said(project):
    project.write(test_it=BROKEN)
    result = project.perf()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["llmperf: nothing was measured, so nothing was recorded*"])
    assert not project.path.joinpath("out.json").exists()
