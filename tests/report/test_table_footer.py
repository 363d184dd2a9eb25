"""The lines below the table: counts, undecided checks, baselines, remedies."""

from __future__ import annotations

from dataclasses import replace

from report_sessions import (
    FOLDER,
    SOURCE,
    compared,
    new_test,
    row,
    session,
    short_answer,
    text,
)

from pytest_llmperf.baselines.tolerances import CalibratedTolerance
from pytest_llmperf.session.recorded import UnmeasuredTest
from pytest_llmperf.session.result import CheckResult, TestResult


def test_the_false_alarm_rate_of_the_session_is_declared() -> None:
    shown = text(session(short_answer(), false_alarms=0.05), 80)
    assert "chance of a false regressed verdict: at most 5% per session" in shown
    assert "false regressed" not in text(session(new_test()), 80)


def test_in_a_strict_session_it_failed() -> None:
    shown = text(session(short_answer(sessions=1), strict=True), 80)
    assert "passed with a warning" not in shown
    assert "3 inconclusive checks failed, as --llmperf-strict or perf.strict asks" in shown


def test_what_fails_for_another_metric_did_not_pass_with_a_warning() -> None:
    rows = (
        row("first_token", 9.0, 9.0, 9.0, baseline=[1.0]),
        row("end_to_end", 1.0, 1.0, 1.0, baseline=[1.0]),
    )
    assert "with a warning" not in text(session(TestResult("t.py::t", rows)), 80)


def test_pairs_that_decide_nothing_are_no_suspects() -> None:
    test = TestResult(
        "t.py::t", (row("end_to_end", 1.0, 1.09, 1.0, 1.05, base=[1.0, 1.0, 1.0, 1.0]),)
    )
    assert "suspect" not in text(session(test, against="other.yaml"), 80)


def test_an_improvement_says_that_the_baseline_is_stale_and_what_to_do() -> None:
    shown = text(session(short_answer(0.7)), 80)
    assert "3 checks improved, so the baseline is stale." in shown
    assert '\n    pytest -m perf --llmperf-accept "why"' in shown


def test_an_improvement_over_a_second_arm_makes_nothing_stale() -> None:
    shown = text(session(compared(0.7), against="other.yaml"), 80)
    assert "improved" in shown
    assert "stale" not in shown
    assert "--llmperf-accept" not in shown


def test_many_baseline_files_take_one_line() -> None:
    sources = tuple(f"{FOLDER}/2026110{n}T101500Z_abc.json" for n in range(1, 9))
    shown = text(session(short_answer(), baseline_sources=sources), 200)
    assert (
        f"baseline: 8 sessions in {FOLDER}, 20261101T101500Z_abc.json to 20261108T101500Z_abc.json"
    ) in shown


def test_a_stall_rate_without_a_limit_is_not_sent_to_record_a_baseline() -> None:
    test = TestResult("t.py::t", (row("stall_rate", 0.0, 0.0, 0.0),))
    shown = text(session(test), 80)
    assert "a stall rate is compared with a limit" in shown
    assert "to record a baseline" not in shown


def test_no_baseline_is_explained_once_with_the_command_that_records_one() -> None:
    shown = text(session(new_test(), new_test()), 80)
    assert shown.count("no session recorded on this machine contains this test") == 1
    assert "no baseline for 2 tests" in shown
    assert "\nto record a baseline: pytest -m perf --llmperf-record" in shown


def test_a_recording_session_says_where_and_does_not_ask_to_record() -> None:
    shown = text(session(new_test(), recorded_to=SOURCE), 120)
    assert f"recorded to {SOURCE}" in shown
    assert "to record a baseline" not in shown


def test_two_views_of_one_quantity_count_as_one_check_and_it_says_so() -> None:
    test = TestResult(
        "t.py::t",
        (
            row("tokens_per_sec", 50.0, 50.0, 50.0, baseline=[60.0] * 10),
            row("time_per_output_token", 0.02, 0.02, 0.02, baseline=[1 / 60] * 10),
        ),
    )
    shown = text(session(test), 120)
    assert "1 test, 1 check: 1 regressed" in shown
    assert "count as one check" in shown


def test_a_session_without_tests_says_nothing_was_judged() -> None:
    assert "0 tests, 0 checks: nothing was judged" in text(session(), 80)


def test_a_test_that_failed_at_the_base_is_named_with_what_was_raised() -> None:
    log = (
        "can't be compared with HEAD~1: its call failed there:\ndef test_new():\nE   assert 1 == 2"
    )
    test = new_test()
    rows = [
        replace(check, verdict=check.verdict and replace(check.verdict, explanation=log))
        for check in test.rows
    ]
    shown = text(session(replace(test, rows=tuple(rows)), against="HEAD~1"), 200)
    reason = "can't be compared with HEAD~1: its call failed there: assert 1 == 2"
    assert f"no baseline for 1 test ({test.nodeid}): {reason}\n" in f"{shown}\n"
    assert "def test_new" not in shown


def test_of_many_tests_without_a_base_a_few_are_named() -> None:
    tests = [replace(new_test(), nodeid=f"t.py::t{number}") for number in range(5)]
    shown = text(session(*tests, against="HEAD~1"), 200)
    assert "no baseline for 5 tests (t.py::t0, t.py::t1, t.py::t2, and 2 more): " in shown


def test_where_nothing_could_be_compared_no_run_of_equals_is_claimed() -> None:
    shown = text(session(new_test(), against="HEAD~1"), 80)
    assert "none of these tests could be compared with HEAD~1" in shown
    assert "A/A" not in shown
    assert "interleaved" not in shown
    assert "A/A" in text(session(compared(), against="HEAD~1"), 80)


def test_a_calibrated_tolerance_names_its_calibration_and_figure() -> None:
    def judged(metric: str, tolerance: float, holds: float | None) -> CheckResult:
        calibrated = CalibratedTolerance(
            tolerance, holds, 60.0, "calibrations/a.json", "2026-11-01T10:15:00Z"
        )
        result = row(metric, *[1.0] * 6, base=[1.0] * 6, tolerance=tolerance)
        check = replace(result.check, calibrated=calibrated)
        return CheckResult(replace(result.evidence, check=check), result.verdict)

    rows = (judged("first_token", 0.02, 0.01), judged("end_to_end", 0.05, None))
    shown = text(session(TestResult("t.py::t", rows, pairs=6)), 200)
    source = "from calibrations/a.json (2026-11-01): sessions of 1 min can hold"
    assert f"tolerance auto: 2% to 5%, {source} 1%; it is at least 2%" in shown
    shown = text(session(TestResult("t.py::t", rows[1:], pairs=6)), 200)
    assert shown.endswith(f"tolerance auto: 5%, {source} none")


def test_tests_that_were_not_measured_are_counted() -> None:
    lost = (
        UnmeasuredTest("t.py::a", "failed", "1 < 2"),
        UnmeasuredTest("t.py::b", "skipped", "no card"),
        UnmeasuredTest("t.py::c", "skipped", "no card"),
    )
    shown = text(session(short_answer(), unmeasured=lost), 120)
    assert "1 test, 3 checks: 3 pass, 1 failed test not measured, 2 tests skipped" in shown
    alone = " ".join(text(session(unmeasured=lost[:1]), 120).split())
    assert "0 tests, 0 checks: nothing was judged, 1 failed test not measured" in alone
