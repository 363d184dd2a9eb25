"""The table without ``-v``: a line per gated metric, and all details of what is not fine."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from report_sessions import SOURCE, new_test, row, session, short_answer

from pytest_llmperf.report.table import render_table
from pytest_llmperf.session.result import TestResult

ANSI = re.compile(r"\x1b\[[\d;]*m")


def test_a_passing_session_of_three_tests_fits_on_half_a_screen() -> None:
    tests = [replace(short_answer(), nodeid=f"tests/perf/test_a.py::test_{n}") for n in "abc"]
    lines = render_table(session(*tests, baseline_sources=(SOURCE,)), 80)
    assert len(lines) <= 18
    assert sum(line.startswith("  pass  ") for line in lines) == 9


@pytest.mark.parametrize("verbosity", [-1, 0])
def test_what_its_failure_explains_is_not_explained_again_without_v(verbosity: int) -> None:
    changed = ("llm.n_batch: 512, was 1024",)
    slower = short_answer(1.3, causes=changed, differences=changed, findings=("2 stalls",))
    view = session(replace(slower, nodeid="t.py::slower"), replace(slower, nodeid="t.py::hidden"))
    tables = [
        "\n".join(render_table(view, 80, verbosity=level, failures=("t.py::slower",)))
        for level in (verbosity, 1)
    ]
    for phrase in ("30.0% slower [", "likely cause: llm.n_batch", "2 stalls", "prefill"):
        assert [table.count(phrase) for table in tables] == [1, 2]
    assert [table.count("explained above, in its failure") for table in tables] == [1, 0]
    only = session(replace(slower, nodeid="t.py::slower"))
    assert "n_batch" not in "\n".join(render_table(only, 80, failures=("t.py::slower",)))


def test_a_quiet_session_that_passes_is_its_counts() -> None:
    assert render_table(session(short_answer()), 80, verbosity=-1) == ["1 test, 3 checks: 3 pass"]


def test_only_v_tells_of_a_difference_that_cost_nothing() -> None:
    alike = session(short_answer(differences=("llm.n_batch: 512, was 1024",)))
    slower = session(short_answer(1.3, differences=("llm.n_batch: 512, was 1024",)))
    mentioned = ["n_batch" in "\n".join(render_table(view, 80)) for view in (alike, slower)]
    assert mentioned == [False, True]
    assert "n_batch" in "\n".join(render_table(alike, 80, verbosity=1))


def test_a_roofline_that_was_asked_for_is_shown_without_a_verdict() -> None:
    rows = (
        row("end_to_end", 1.0, 1.0, 1.0, limit=2.0),
        row("roofline", 0.5, 0.5, 0.5, gated=False),
        row("prefill_tokens_per_sec", 300.0, 300.0, 300.0, gated=False),
    )
    shown = "\n".join(render_table(session(TestResult("t.py::t", rows)), 80))
    assert re.search(r"^  - +roofline +50\.0%", shown, re.MULTILINE)
    assert "prefill" not in shown


def test_on_a_narrow_terminal_the_rest_of_a_row_is_below_it() -> None:
    lines = render_table(session(short_answer()), 40)
    index = lines.index("  pass  first token  412 ms")
    assert lines[index + 1].startswith("        target <=500 ms")


def test_colour_adds_nothing_but_colour() -> None:
    view = session(short_answer(1.3), new_test(), busy=("stress",))
    colored = "\n".join(render_table(view, 80, color=True))
    assert "\x1b[31mregressed\x1b[0m" in colored
    assert ANSI.sub("", colored) == "\n".join(render_table(view, 80))
