"""A workload's load pattern: when its requests are sent, and what is hashed and stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator

import pytest

from pytest_llmperf.engine.request import Request
from pytest_llmperf.engine_kinds import EngineKind, EngineKindError, engine_kind
from pytest_llmperf.measure.load_pattern import IN_ORDER, LoadPattern
from pytest_llmperf.measure.replication import FRESH_PROCESS, replication_unit
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.run import Run
from pytest_llmperf.stored_json import ShapeError, dump, read
from pytest_llmperf.timeline import Timeline

RECORDED = RecordedRequest(Request(prompt="hi", max_tokens=2), (1, 2), 2, 2)


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
