"""The table at the end of a session: what it must say and must never lose."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_sessions import SOURCE, new_test, row, session, short_answer

from pytest_llmperf.report.model import TestReportView
from pytest_llmperf.report.table import render_table
from pytest_llmperf.report.text import display_width

ANSI = re.compile(r"\x1b\[[\d;]*m")
names = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)
nodeids = st.builds(
    lambda folders, name, parameter: (
        "/".join(folders) + f".py::test_{name}" + (f"[{parameter}]" if parameter else "")
    ),
    st.lists(names, min_size=1, max_size=5),
    names,
    st.one_of(st.just(""), names),
)
seconds = st.floats(min_value=1e-4, max_value=900.0)


def text(*args: object, **kwargs: object) -> str:
    return "\n".join(render_table(*args, **kwargs))  # type: ignore[arg-type]


def joined(lines: list[str]) -> str:
    """All lines as one run of text without spaces, to find what was broken over lines."""
    return "".join("".join(lines).split())


@pytest.mark.parametrize("width", [80, 120])
def test_a_busy_machine_is_told_before_any_speed(width: int) -> None:
    lines = render_table(session(short_answer(), busy=("process 4242 (stress)",)), width)
    assert lines[:2] == ["the machine was busy while measuring:", "  - process 4242 (stress)"]


def test_the_verdict_comes_first_in_every_row() -> None:
    lines = render_table(session(short_answer(1.3)), 120)
    assert [line.split()[0] for line in lines if "[" in line and "over 2" in line] == [
        "regressed",
        "-",
        "regressed",
        "regressed",
    ]


def test_decode_and_prefill_have_rows_of_their_own() -> None:
    lines = render_table(session(short_answer(1.3)), 120)
    assert any("tokens/s " in line and "30.0% slower" in line for line in lines)
    assert any("prefill " in line and "0.2% faster" in line for line in lines)


def test_a_pass_needs_no_explanation() -> None:
    assert "baseline:" not in text(session(short_answer()), 80)


def test_reasons_that_lost_are_shown_too() -> None:
    assert "also missed: target missed by 7.1%" in text(session(short_answer(1.3)), 80)


def test_no_baseline_is_explained_once_with_the_command_that_records_one() -> None:
    shown = text(session(new_test(), new_test()), 80)
    assert shown.count("no earlier session on this machine holds this test") == 1
    assert "no baseline for 2 tests" in shown
    assert "\n    pytest -m perf --llmperf-record" in shown


def test_a_recording_session_says_where_and_does_not_ask_to_record() -> None:
    shown = text(session(new_test(), recorded_to=SOURCE), 120)
    assert f"recorded to {SOURCE}" in shown
    assert "record a baseline with" not in shown


def test_baseline_files_are_named_whole() -> None:
    assert SOURCE in text(session(short_answer(), baseline_sources=(SOURCE,)), 80)


def test_wall_time_and_the_share_inside_generation_are_shown() -> None:
    assert "58 s of measuring, 90% of it inside generation" in text(session(short_answer()), 80)


def test_two_views_of_one_quantity_count_as_one_check_and_it_says_so() -> None:
    test = TestReportView(
        "t.py::t",
        (
            row("tokens_per_sec", 50.0, 50.0, 50.0, baseline=[60.0]),
            row("time_per_output_token", 0.02, 0.02, 0.02, baseline=[1 / 60]),
        ),
    )
    shown = text(session(test), 120)
    assert "1 test, 1 check: 1 regressed" in shown
    assert "count as one check" in shown


def test_an_error_shows_its_first_line_and_no_numbers() -> None:
    broken = row("end_to_end", error="the engine died of SIGSEGV\nlast log line\nanother")
    shown = text(session(TestReportView("t.py::t", (broken,))), 80)
    assert "error end to end: the engine died of SIGSEGV" in shown
    assert "last log line" not in shown


def test_an_invalid_machine_is_explained_once_and_blames_no_metric() -> None:
    rows = tuple(
        row(name, 1.0, 1.0, 1.0, invalid=("the machine swapped 40 MiB",))
        for name in ("first_token", "end_to_end")
    )
    shown = text(session(TestReportView("t.py::t", rows)), 80)
    assert shown.count("  invalid: the machine swapped 40 MiB") == 1


def test_a_session_without_tests_says_nothing_was_judged() -> None:
    assert "0 tests, 0 checks: nothing was judged" in text(session(), 80)


def test_metrics_that_are_shown_only_have_no_verdict() -> None:
    test = TestReportView("t.py::t", (row("end_to_end", 9.0, 9.0, 9.0, gated=False),))
    shown = text(session(test), 80)
    assert re.search(r"^- +end to end +9\.00", shown, re.MULTILINE)
    assert "nothing was judged" in shown


def test_colour_adds_nothing_but_colour() -> None:
    view = session(short_answer(1.3), new_test(), busy=("stress",))
    assert ANSI.sub("", text(view, 80, color=True)) == text(view, 80)


def test_a_log_gets_no_escape_characters() -> None:
    assert "\x1b" not in text(session(short_answer(1.3), busy=("stress",)), 80)


def test_a_regression_is_red_and_a_pass_green() -> None:
    assert "\x1b[31mregressed\x1b[0m" in text(session(short_answer(1.3)), 80, color=True)
    assert "\x1b[32mpass\x1b[0m" in text(session(short_answer()), 80, color=True)


@pytest.mark.parametrize(
    "nodeid",
    [
        "t.py::test_x[\x1b[2J\x07\r\n]",
        "t.py::test_\u202egnp.exe\u200b",
        "t.py::test_\udcff",
        "t.py::test_\u2028x",
    ],
)
def test_a_hostile_node_id_can_not_move_the_cursor(nodeid: str) -> None:
    lines = render_table(session(TestReportView(nodeid, (row("end_to_end", 1, 1, 1),))), 80)
    for line in lines:
        assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    "\n".join(lines).encode("utf-8")


@pytest.mark.parametrize("nodeid", ["t.py::" + "x" * 500, "試験/" * 60 + "t.py::試", "::" * 200])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_very_long_node_id_is_broken_and_never_cut(nodeid: str, width: int) -> None:
    lines = render_table(session(TestReportView(nodeid, (row("end_to_end", 1, 1, 1),))), width)
    assert nodeid in joined(lines)
    assert max(map(display_width, lines)) <= width


@given(nodeids, seconds, seconds, st.sampled_from([80, 100, 120, 200]))
def test_nothing_exceeds_the_width_and_every_number_is_there(
    nodeid: str, current: float, baseline: float, width: int
) -> None:
    shown = row(
        "end_to_end", current, current * 1.01, current * 1.02, limit=5.0, baseline=[baseline]
    )
    test = TestReportView(nodeid, (shown,), workload="1 request, 38 tokens in, 64 out")
    lines = render_table(session(test), width)
    everything = "\n".join(lines)
    assert max(map(display_width, lines)) <= width
    assert nodeid in joined(lines)
    assert re.search(r"\d+(\.\d+)? \[\d+(\.\d+)?, \d+(\.\d+)?\] (s|ms|µs)", everything)
    assert "<=5 s" in everything
    assert re.search(r"\d%|no change", everything)


@given(st.integers(min_value=1, max_value=60))
def test_a_tiny_terminal_does_not_lose_intervals(width: int) -> None:
    lines = render_table(session(short_answer(1.3), new_test()), width)
    assert sum("[83.1, 86.8] tok/s" in line for line in lines) == 1
    assert sum("[63.9, 66.8] tok/s" in line for line in lines) == 1
