"""Clock readings that no clock can have given are told apart from possible ones."""

from __future__ import annotations

import math

import pytest

from pytest_llmperf.timeline import Timeline

NAN = math.nan


@pytest.mark.parametrize(
    ("t_start", "times", "flaw"),
    [
        (0.0, (NAN, 1.0), "a clock reading is not a finite number"),
        (NAN, (1.0,), "a clock reading is not a finite number"),
        (0.0, (1.0, math.inf), "a clock reading is not a finite number"),
        (0.0, ("1", 2.0), "a clock reading is not a finite number"),
        (0.0, (None,), "a clock reading is not a finite number"),
        (0.0, (True,), "a clock reading is not a finite number"),
        (2.0, (1.0, 3.0), "token 1 came 1 s before the request began"),
        (0.0, (1.0, 3.0, 2.5), "token 3 came 0.5 s before token 2"),
        (1.0, (1.0, 1.0), "no time passed before token 1"),
        (1.0, (1.0, 2.0), "no time passed before token 1"),
        (0.0, (1.0, 9.0), "9 s passed on it, and the request took 5 s"),
    ],
)
def test_an_impossible_timeline_is_told(t_start: float, times: tuple, flaw: str) -> None:
    assert Timeline(t_start, times).clock_error(5.0) == flaw


@pytest.mark.parametrize(
    "timeline",
    [
        Timeline(5.0, (6.0, 6.0, 9.9)),
        Timeline(0.0, (5.01,)),
        Timeline(3.0, ()),
        Timeline(1, (2,)),
        Timeline(0.0, (3.0,), t_prefill_start=0.5, t_prefill_end=2.0),
    ],
)
def test_a_possible_timeline_has_no_flaw(timeline: Timeline) -> None:
    assert timeline.clock_error(5.0) is None


@pytest.mark.parametrize("prefill", [(2.0, 1.0), (NAN, 1.0), (-1.0, 1.0), (1.0, 4.0)])
def test_prefill_lies_between_start_and_first_token(prefill: tuple[float, float]) -> None:
    start, end = prefill
    flaw = Timeline(0.0, (3.0,), t_prefill_start=start, t_prefill_end=end).clock_error(5.0)
    assert flaw in (
        "a clock reading is not a finite number",
        "prefill did not lie before the first token",
    )
