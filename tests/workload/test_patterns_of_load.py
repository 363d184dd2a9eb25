"""Load patterns: identity, schedules, warm-up, expected time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.engine.request import Request
from pytest_llmperf.measure.load_pattern import IN_ORDER, LoadPattern, TracedRequest, load_seed
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.stored_json import dump, read

CLOSED = LoadPattern("closed", concurrency=8, requests=64)
OPEN = LoadPattern("poisson", rate=4.0, duration=30.0)
TRACE = LoadPattern("trace", trace=(TracedRequest(0.0), TracedRequest(2.0, prompt="Hi")))


@pytest.mark.parametrize(
    "pattern", [IN_ORDER, CLOSED, OPEN, replace(OPEN, over_saturated="note"), TRACE]
)
def test_a_stored_pattern_reads_back(pattern: LoadPattern) -> None:
    assert read(LoadPattern, dump(pattern)) == pattern


def test_another_load_is_another_workload() -> None:
    recorded = RecordedRequest(Request(prompt="Hi", max_tokens=4), (), None, 4)
    patterns = (
        IN_ORDER,
        CLOSED,
        OPEN,
        TRACE,
        replace(CLOSED, requests=32),
        replace(OPEN, rate=5.0),
        replace(CLOSED, limits={"first_token": 0.5}),
        replace(TRACE, trace=(TracedRequest(0.0), TracedRequest(2.0, prompt="Ho"))),
    )
    hashes = {Workload((recorded,), pattern).hash for pattern in patterns}
    assert len(hashes) == len(patterns)
    # How many requests may fail decides whether a load counts, not what it is.
    bound = replace(CLOSED, max_error_rate=0.5, over_saturated="note")
    assert Workload((recorded,), bound).hash == Workload((recorded,), CLOSED).hash


def test_both_sides_of_a_pair_get_the_same_times_and_other_pairs_others() -> None:
    due = [OPEN.schedule(load_seed(1, pair, 0)).due for pair in (0, 0, 1)]
    assert due[0] == due[1] != due[2]


def test_a_part_of_the_load_warms_up() -> None:
    assert CLOSED.warmup() == replace(CLOSED, requests=16)
    # Every slot gets a request.
    assert replace(CLOSED, requests=8).warmup().requests == 8
    assert OPEN.warmup().duration == 7.5
    assert len(TRACE.warmup().trace) == 2


@pytest.mark.parametrize(
    ("pattern", "seconds"),
    [
        (OPEN, 32.0),
        (replace(OPEN, duration=None, requests=40), 12.0),
        (TRACE, 4.0),
        (CLOSED, 16.0),
        (replace(CLOSED, requests=None, duration=10.0), 12.0),
    ],
)
def test_how_long_a_load_takes_is_expected(pattern: LoadPattern, seconds: float) -> None:
    assert pattern.expected_seconds(2.0) == seconds


def test_a_pattern_describes_itself() -> None:
    assert str(CLOSED) == "8 in flight, 64 requests"
    assert str(replace(CLOSED, concurrency=1, requests=1)).endswith(", 1 request")
    assert str(OPEN) == "4 requests/s (poisson), 30 s"
    assert str(TRACE) == "2 requests of a trace over 2 s"
