"""Progress while rounds run: words, and the lines of a log."""

from __future__ import annotations

import pytest

from pytest_llmperf.measure.rounds import Step
from pytest_llmperf.report.progress import (
    LogProgress,
    open_lines,
    replay_words,
    round_words,
    short_name,
    time_words,
)
from pytest_llmperf.text import display_width

NODEID = "tests/perf/test_chat.py::TestChat::test_short_answer[gpu::12]"
OPEN = (
    "tokens/s 0.4% slower [1.2% faster to 2.0% slower], tolerance 5%",
    "first token against its target: 1.0% faster [3.0% faster to 1.0% slower]",
)


def step(**changes: object) -> Step:
    defaults: dict[str, object] = {
        "process": 2,
        "processes": 3,
        "nodeid": NODEID,
        "iteration": 2,
        "iterations": 3,
        "side": "candidate",
        "pair": None,
    }
    return Step(**{**defaults, **changes})  # type: ignore[arg-type]


def test_a_round_is_a_process_or_one_of_a_pair() -> None:
    assert round_words(step()) == "process 2"
    assert round_words(step(unit="block")) == "block 2"
    assert round_words(step(pair=3, side="base")) == "pair 3, base"


def test_warming_up_is_no_iteration() -> None:
    assert [replay_words(step(iteration=n)) for n in (None, 2)] == ["warming up", "iteration 2/3"]


def test_a_test_is_named_by_its_function_and_parameters() -> None:
    assert short_name(NODEID) == "test_short_answer[gpu::12]"
    assert short_name("t.py::t[\x1b[2J]") == "t[\\x1b[2J]"


def test_the_time_left_is_known_at_least_then_about_then_not() -> None:
    assert time_words(step(), 20.0, 60.0) == "20 s, at least 40 s left"
    assert time_words(step(left=39.6), 70.0, 60.0) == "1 min 10 s, about 40 s left"
    assert time_words(step(), 70.0, 60.0) == time_words(step(), 70.0, None) == "1 min 10 s"


def test_of_many_open_metrics_a_few_are_shown() -> None:
    assert list(open_lines(step(open=OPEN))) == list(OPEN)
    assert list(open_lines(step(open=("a", "b", "c", "d", "e")))) == ["a", "b", "c", "and 2 more"]


def test_a_log_gets_a_line_every_half_a_minute() -> None:
    written: list[str] = []
    log = LogProgress(written.append, width=100, expected_seconds=60.0)
    for seconds in range(0, 100, 5):
        undecided = OPEN[:1] if seconds > 60 else ()
        log.step(step(process=1 + seconds // 20, open=undecided), seconds)
    assert "".join(written).splitlines() == [
        "process 2 · 30 s, at least 30 s left",
        "process 4 · 1 min",
        "process 5 · 1 min 30 s · test_short_answer[gpu::12]: tokens/s 0.4% slower [1.2% faster "
        "to 2.0%",
        "  slower], tolerance 5%",
    ]


@pytest.mark.parametrize("nodeid", ["t.py::t", "t.py::t[\x1b[2J\n]"])
def test_a_line_of_a_log_fits_and_never_moves_the_cursor(nodeid: str) -> None:
    written: list[str] = []
    LogProgress(written.append, width=40).step(step(nodeid=nodeid, open=OPEN), 31.0)
    lines = "".join(written).splitlines()
    assert len(lines) > 1
    assert all(display_width(line) <= 40 and line.isprintable() for line in lines)
