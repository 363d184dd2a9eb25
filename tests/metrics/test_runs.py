"""A run: one replay's timelines, when each request was due and sent, and its window."""

from __future__ import annotations

from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.metrics import METRICS, compute_all
from pytest_llmperf.run import Dispatch, Run
from pytest_llmperf.timeline import Timeline

ONE = Timeline(10.0, (11.0, 11.5))
TWO = Timeline(11.75, (12.0, 12.5))


def test_in_order_each_request_is_due_when_the_one_before_has_ended() -> None:
    run = Run.in_order([ONE, TWO])
    assert run.schedule == (Dispatch(10.0, 10.0), Dispatch(11.5, 11.75))
    assert run.window == (10.0, 12.5)
    assert run.seconds == 2.5


def test_a_request_without_a_token_ends_where_it_began() -> None:
    run = Run.in_order([ONE, Timeline(12.0, ())])
    assert run.window == (10.0, 12.0)
    assert Run.in_order([]).seconds == 0.0


def test_pauses_between_turns_are_in_neither_timelines_nor_window() -> None:
    paused = Timeline(10.0, (11.0, 13.5), pauses=((11.25, 13.25),))
    run = Run.in_order([paused])
    assert run.without_pauses().timelines == (Timeline(10.0, (11.0, 11.5)),)
    assert (run.seconds, run.without_pauses().seconds) == (3.5, 1.5)
    assert compute_all(run) == compute_all(Run.in_order([ONE]))


def test_a_run_reads_as_its_timelines() -> None:
    run = Run.in_order([ONE, TWO])
    assert (len(run), run[1], list(run)) == (2, TWO, [ONE, TWO])
    assert METRICS["first_token"].compute(run) == METRICS["first_token"].compute([ONE, TWO])  # type: ignore[arg-type]


def test_a_generation_is_a_run_of_its_own() -> None:
    generation = Generation("ab", (), (), ONE, "length", "clear")
    assert generation.metrics == compute_all(Run.in_order([ONE]))
