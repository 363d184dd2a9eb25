"""The explanations of verdicts below a test's rows."""

from __future__ import annotations

import re

import pytest
from report_sessions import compared, full_table, row, session, short_answer, text

from pytest_llmperf.session.fitness_entries import FitnessEntry, machine_lines
from pytest_llmperf.session.result import TestResult


def test_a_pass_says_on_one_line_what_it_proves() -> None:
    lines = full_table(session(short_answer()), 80)
    assert "  first token: 0.7% faster [4.0% faster to 2.7% slower], at most 2.1% slower" in lines


def test_what_stored_sessions_can_tell_is_said_once_where_it_is_the_same() -> None:
    alike = short_answer(sessions=1)
    shown = text(session(alike), 120)
    assert shown.count("1 stored session can decide: passes only from 1.8% faster") == 1


def test_what_stored_sessions_can_tell_is_said_per_metric_where_it_differs() -> None:
    shown = text(session(short_answer()), 240)
    assert (
        "10 stored sessions can decide: tokens/s passes up to 3.0% slower, regressed from 4.0% "
        "slower; first token passes up to 2.1% slower, regressed from 5.3% slower; end to end "
        "passes up to 2.8% slower, regressed from 4.2% slower"
    ) in shown


def test_one_tolerance_is_said_once_for_all_tests() -> None:
    shown = text(session(compared(), compared(), against="other.yaml"), 80)
    assert shown.count("tolerance 5%") == 1


def test_tolerances_that_differ_stand_with_their_metrics() -> None:
    test = TestResult(
        "t.py::t",
        (
            row("first_token", 1.0, 1.0, 1.0, base=[1.0, 1.0, 1.0], tolerance=0.1),
            row("end_to_end", 1.0, 1.0, 1.0, base=[1.0, 1.0, 1.0]),
        ),
    )
    shown = text(session(test, against="other.yaml"), 120)
    assert re.search(r"first token: .*; tolerance 10%", shown)
    assert re.search(r"end to end: .*; tolerance 5%", shown)


def test_sixty_checks_take_at_most_a_line_each_and_one_for_all_of_a_test() -> None:
    ten = session(*[compared()] * 10, against="other.yaml")
    few, more = (len(full_table(ten, 120, verbosity=verbosity)) for verbosity in (0, 1))
    # -v adds for each test a blank line, two lines about its metrics and one about its target.
    assert more - few <= 10 * 4 + 5


def test_an_error_shows_its_first_line_and_no_numbers() -> None:
    broken = row("end_to_end", error="the engine died of SIGSEGV\nlast log line\nanother")
    shown = text(session(TestResult("t.py::t", (broken,))), 80)
    assert "error end to end: the engine died of SIGSEGV" in shown
    assert "last log line" not in shown


@pytest.mark.parametrize("verbosity", [0, 1])
def test_what_disturbed_the_machine_is_said_once_for_all_tests(verbosity: int) -> None:
    entry = FitnessEntry("busy_cores", "invalid", "process 4242 (stress) used 2 of 2 cores")
    tests = [
        TestResult(f"t.py::{name}", (row("end_to_end", 1.0, 1.0, 1.0, invalid=(str(entry),)),))
        for name in "abc"
    ]
    view = session(*tests, fitness=(entry,), busy=machine_lines((entry,)))
    shown = text(view, 80, verbosity=verbosity)
    assert shown.count("process 4242 (stress) used 2 of 2 cores (busy_cores)") == 1
    assert shown.count("  invalid: the machine was disturbed (busy_cores)") == 3


def test_an_invalid_machine_is_explained_once_and_blames_no_metric() -> None:
    rows = tuple(
        row(name, 1.0, 1.0, 1.0, invalid=("the machine swapped 40 MiB",))
        for name in ("first_token", "end_to_end")
    )
    shown = text(session(TestResult("t.py::t", rows)), 80)
    assert shown.count("  invalid: the machine swapped 40 MiB") == 1
