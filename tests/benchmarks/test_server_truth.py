"""The server truth benchmark: delays of requests and chunks, and which requests show a stop."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest
from server_truth import delays, first_token_seconds, stop_in_outcomes

from pytest_llmperf.engine.server.generator import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.schedule import closed


def answered(number: int, sent: float, arrived: float) -> RequestOutcome:
    times = array("d", (arrived, arrived + 0.01))
    return RequestOutcome(number, sent, sent, sent, arrived + 0.01, times, arrived, 1, 2, 2)


def test_both_ways_of_a_request_are_told_apart_whatever_the_order():
    outcomes = (answered(0, 1.0, 1.25), answered(1, 2.0, 2.5))
    result = LoadResult(closed(2, requests=2), outcomes, (1.0, 3.0))
    truths = [
        {"number": 1, "received": 2.002, "chunks": [(2.499, 1), (2.6, 1)]},
        {"number": 0, "received": 1.001, "chunks": [(1.247, 1), (1.3, 1)]},
    ]
    seconds = [way for both in delays(result, truths) for way in both]
    assert seconds == pytest.approx([0.001, 0.003, 0.002, 0.001])


def test_requests_are_in_step_only_where_that_is_asked_for():
    assert len({first_token_seconds(number) for number in range(64)}) == 64
    assert len({first_token_seconds(number, in_step=True) for number in range(64)}) == 2


def test_a_request_that_waited_in_the_client_shows_a_stop_only_from_when_it_was_due():
    at_once = answered(0, 1.0, 3.05)
    held_back = replace(answered(1, 2.9, 3.2), due=1.5)
    # The server stopped until 3.0.
    assert stop_in_outcomes([at_once, held_back], "due", 3.0) == (2, pytest.approx(1.875))
    assert stop_in_outcomes([at_once, held_back], "sent", 3.0) == (1, pytest.approx(1.175))


def test_a_request_without_an_answer_does_not_show_a_stop():
    failed = replace(answered(0, 1.0, 3.05), times=array("d"))
    assert stop_in_outcomes([failed], "due", 3.0) == (0, 0.0)
