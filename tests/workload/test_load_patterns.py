"""Load patterns: identity, what is stored, schedules, warm-up, expected time, replication."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import replace

import pytest

from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine_kinds import EngineKind, EngineKindError, engine_kind
from pytest_llmperf.measure.load_pattern import IN_ORDER, LoadPattern, TracedRequest, load_seed
from pytest_llmperf.measure.replication import FRESH_PROCESS, replication_unit
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.run import Run
from pytest_llmperf.stored_json import ShapeError, dump, read
from pytest_llmperf.timeline import Timeline

RECORDED = RecordedRequest(Request(prompt="hi", max_tokens=2), (1, 2), 2, 2)
CLOSED = LoadPattern("closed", concurrency=8, requests=64)
OPEN = LoadPattern("poisson", rate=4.0, duration=30.0)
TRACE = LoadPattern("trace", trace=(TracedRequest(0.0), TracedRequest(2.0, prompt="Hi")))


def test_requests_in_order_have_the_hash_they_always_had() -> None:
    workload = Workload((RECORDED, RECORDED))
    text = json.dumps([RECORDED.identity(), RECORDED.identity()], sort_keys=True)
    assert workload.hash == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert Workload((RECORDED,)).hash == "aafe20e44a10ac44"


def test_the_usual_pattern_is_left_out_of_files_and_an_unknown_one_is_refused() -> None:
    stored = dump(Workload((RECORDED,)))
    assert set(stored) == {"requests"}
    assert read(Workload, stored).load == IN_ORDER
    assert read(Workload, {**stored, "load": {"arrivals": "in_order"}}).load == IN_ORDER
    with pytest.raises(ShapeError, match="load"):
        read(Workload, {**stored, "load": {"arrivals": "poisson"}})


def test_one_request_follows_the_other_until_the_run_is_void() -> None:
    sent: list[str] = []

    def send(number: int, request: str) -> Generator[int, None, Timeline]:
        sent.append(request)
        yield 2 * number
        return Timeline(float(number), (number + 0.5,))

    def drive(void_after: int) -> tuple[list[int], Run]:
        sent.clear()
        progress, going = [], IN_ORDER.drive("abc", send, lambda: len(sent) == void_after)
        while True:
            try:
                progress.append(next(going))
            except StopIteration as end:
                return progress, end.value

    progress, run = drive(9)
    assert (progress, sent) == ([0, 2, 4], ["a", "b", "c"])
    assert [dispatch.due for dispatch in run.schedule] == [0.0, 0.5, 1.5]
    _, run = drive(2)
    assert (sent, len(run)) == (["a", "b"], 2)
    assert isinstance(IN_ORDER, LoadPattern)


def test_the_unit_of_replication_is_a_fresh_process() -> None:
    for name in ("llama_cpp", "app"):
        assert replication_unit(engine_kind(name)) is FRESH_PROCESS
    with pytest.raises(EngineKindError, match="can't be restarted"):
        replication_unit(EngineKind("acme", "a:B", restarts=False))


@pytest.mark.parametrize(
    "pattern", [IN_ORDER, CLOSED, OPEN, replace(OPEN, over_saturated="note"), TRACE]
)
def test_a_stored_pattern_reads_back(pattern: LoadPattern) -> None:
    assert read(LoadPattern, dump(pattern)) == pattern


def test_another_load_is_another_workload() -> None:
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
    hashes = {Workload((RECORDED,), pattern).hash for pattern in patterns}
    assert len(hashes) == len(patterns)
    # How many requests may fail decides whether a load counts, not what it is.
    bound = replace(CLOSED, max_error_rate=0.5, over_saturated="note")
    assert Workload((RECORDED,), bound).hash == Workload((RECORDED,), CLOSED).hash


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
