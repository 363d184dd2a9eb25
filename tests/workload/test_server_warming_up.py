"""Whether a running server was still warming up, judged by its blocks in order."""

from __future__ import annotations

import random

import pytest

from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.warming_up import too_few_blocks_note, warm_up_message


def text(name: str, *levels: float, tolerance: float = 0.05) -> str:
    return warm_up_message(get_metric(name), tuple((level,) for level in levels), tolerance)


def test_latencies_that_fall_and_rates_that_rise_are_found() -> None:
    assert text("first_token", 0.5, 0.4, 0.3, 0.25, 0.24) == (
        "the server was still warming up: first token went from 450 ms in the first 2 blocks to "
        "245 ms in the last 2; send it requests for a while, then measure again"
    )
    assert "from 10.5 tok/s" in text("tokens_per_sec", 10, 11, 12, 13, 14)


def test_what_proves_nothing_is_not_found() -> None:
    assert text("first_token", 0.5, 0.4, 0.3, 0.25) == ""  # four blocks are too few
    assert text("first_token", 0.24, 0.25, 0.3, 0.4, 0.5) == ""  # it gets slower
    assert text("first_token", 0.501, 0.500, 0.499, 0.498, 0.497) == ""  # hardly
    assert text("first_token") == ""
    assert text("stall_rate", 0.5, 0.4, 0.3, 0.2, 0.1) == ""


def test_blocks_that_are_too_few_to_show_it_are_said_to_be() -> None:
    assert too_few_blocks_note(4) == (
        "whether the server was still warming up was not checked: that needs 5 blocks "
        "(perf.processes: 5), and this session has 4"
    )
    assert too_few_blocks_note(5) == too_few_blocks_note(0) == ""


def test_chance_alone_finds_it_in_one_of_a_hundred() -> None:
    draw = random.Random(1)
    alarms = sum(
        bool(text("first_token", *(draw.lognormvariate(0, 0.3) for _ in range(8))))
        for _ in range(3000)
    )
    assert alarms / 3000 == pytest.approx(0.007, abs=0.006)
