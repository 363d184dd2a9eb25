"""The grid of a sweep below the table: a row for each cell, each metric's best marked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_sessions import session, short_answer

from pytest_llmperf.report.sweep import sweep_lines
from pytest_llmperf.session.result import SessionResult

SWEEP = "tests/perf/test_chat.py::test_short_answer"


@pytest.fixture
def swept() -> SessionResult:
    """Return a session of three cells (the second fastest, the last unmeasured) and a test."""
    cells = [
        replace(
            short_answer(slower),
            nodeid=f"{SWEEP}[n_batch={batch}]",
            settings={"n_batch": batch},
            sweep=SWEEP,
        )
        for batch, slower in ((512, 1.0), (1024, 0.8), (2048, 1.2))
    ]
    return session(*cells[:2], replace(cells[2], rows=()), short_answer())


def test_each_metric_has_its_best_cell_marked_and_not_called_a_gain(swept: SessionResult) -> None:
    empty, name, header, first, second, third, *legend = sweep_lines(swept, 120, color=False)
    assert (empty, name) == ("", SWEEP)
    assert header.split() == ["tokens/s", "prefill", "first", "token", "end", "to", "end"]
    assert first.split()[0] == "n_batch=512"
    assert "84.9 [84.2, 85.6] tok/s" in first
    assert "*" not in first
    assert second.count(" *") == 3
    assert third.split() == ["n_batch=2048", "-", "-", "-", "-"]
    assert " ".join(legend).startswith("* fastest here, not proven: the cells were not compared")


@pytest.mark.parametrize("width", [20, 60, 80, 100, 200])
def test_the_grid_fits_and_leaves_out_no_value(swept: SessionResult, width: int) -> None:
    lines = sweep_lines(swept, width, color=False)
    grid = [line for line in lines if "n_batch" in line]
    assert len(grid) in (3, 12)
    # A single metric with its interval is never cut.
    assert max(map(len, lines)) <= max(width, 60)
    assert sum(line.count(" *") for line in grid) == 3


def test_a_single_cell_and_a_session_without_sweeps_have_no_grid(swept: SessionResult) -> None:
    assert sweep_lines(replace(swept, tests=(swept.tests[0], swept.tests[3])), 80, False) == []
    assert sweep_lines(session(short_answer()), 80, False) == []
