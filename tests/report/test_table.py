"""The table at the end of a session: what it must say and must never lose."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_sessions import compared, full_table, new_test, row, session, short_answer, text

from pytest_llmperf.session.result import TestResult
from pytest_llmperf.text import display_width

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


def joined(lines: list[str]) -> str:
    """Return the lines as one text without spaces, to find words that were broken over lines."""
    return "".join("".join(lines).split())


def test_two_equal_configurations_are_said_to_be_equal() -> None:
    shown = text(session(compared(), against="other.yaml"), 80)
    assert "both have the same settings: an A/A run" in shown


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_second_arm_is_no_baseline_and_has_no_sessions(width: int) -> None:
    shown = text(session(compared(1.2), against="other.yaml"), width)
    assert "baseline" not in shown
    assert not re.search(r"over \d+ session", shown)
    assert "recorded session" not in shown
    assert "base" in shown


def test_the_samples_of_each_test_and_their_range_are_shown() -> None:
    view = session(compared(), compared(pairs=9), against="other.yaml")
    shown = text(view, 120)
    assert "\n7 to 9 pairs of processes x at least 3 iterations of each test" in shown
    assert "64 out; 7 pairs)" in shown
    assert "64 out; 9 pairs)" in shown


def test_metrics_that_are_shown_only_have_no_verdict() -> None:
    test = TestResult("t.py::t", (row("end_to_end", 9.0, 9.0, 9.0, gated=False),))
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
    lines = full_table(session(TestResult(nodeid, (row("end_to_end", 1, 1, 1),))), 80)
    for line in lines:
        assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    "\n".join(lines).encode("utf-8")


@pytest.mark.parametrize("nodeid", ["t.py::" + "x" * 500, "試験/" * 60 + "t.py::試", "::" * 200])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_very_long_node_id_is_broken_and_never_cut(nodeid: str, width: int) -> None:
    lines = full_table(session(TestResult(nodeid, (row("end_to_end", 1, 1, 1),))), width)
    assert nodeid in joined(lines)
    assert max(map(display_width, lines)) <= width


@given(nodeids, seconds, seconds, st.sampled_from([80, 100, 120, 200]))
def test_nothing_exceeds_the_width_and_every_number_is_there(
    nodeid: str, current: float, baseline: float, width: int
) -> None:
    shown = row(
        "end_to_end", current, current * 1.01, current * 1.02, limit=5.0, baseline=[baseline]
    )
    test = TestResult(nodeid, (shown,), workload="1 request, 38 tokens in, 64 out")
    lines = full_table(session(test), width)
    everything = "\n".join(lines)
    assert max(map(display_width, lines)) <= width
    assert nodeid in joined(lines)
    assert re.search(r"\d+(\.\d+)? \[\d+(\.\d+)?, \d+(\.\d+)?\] (s|ms|µs)", everything)
    assert "<=5 s" in everything
    assert re.search(r"\d%|no change", everything)


@given(st.integers(min_value=1, max_value=60))
def test_a_tiny_terminal_does_not_lose_intervals(width: int) -> None:
    lines = full_table(session(short_answer(1.3), new_test()), width)
    assert sum("[83.1, 86.8] tok/s" in line for line in lines) == 1
    assert sum("[64.8, 65.8] tok/s" in line for line in lines) == 1
