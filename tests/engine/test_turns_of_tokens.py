"""An engine that generates in turns: some tokens, then it waits until it may go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import psutil
import pytest

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError, EngineGoneError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.planted import Plant
from pytest_llmperf.engine.request import Request

#: About 90 tokens: six batches of 16.
LONG = "word " * 90


@pytest.fixture(scope="module")
def llama(llama_config: Callable[..., dict[str, Any]]) -> Iterator[EngineClient]:
    """llama.cpp with batches so small that even a short prompt takes several."""
    config = llama_config(n_batch=16, n_ubatch=16)
    client = EngineClient.start(LaunchSpec("llama_cpp", config))
    yield client
    client.close()


def in_turns(
    client: EngineClient, request: Request, tokens: int, wait: float = 0.0
) -> tuple[Generation, list[int]]:
    """Run a request in turns; return its answer and the number of tokens after each turn."""
    turns, ends = client.in_turns(request, tokens), []
    while True:
        try:
            ends.append(next(turns))
        except StopIteration as end:
            return end.value, ends
        time.sleep(wait)


def test_the_same_tokens_come_with_and_without_turns(llama: EngineClient) -> None:
    request = Request(prompt=LONG, max_tokens=12)

    whole, (paused, ends) = llama.request(request), in_turns(llama, request, 3)

    assert paused.token_ids == whole.token_ids
    assert paused.text == whole.text
    assert len(whole.token_ids) == 12
    batches = -(-(whole.timeline.prompt_tokens or 0) // 16)
    assert batches == 6
    # One turn per batch of the prompt, the last with the first token; then three tokens a turn.
    assert ends == [0] * (batches - 1) + [1, 4, 7, 10]
    assert len(paused.timeline.pauses) == len(ends)
    assert whole.timeline.pauses == ()


def test_pauses_are_not_the_engines_own_time(llama: EngineClient) -> None:
    request = Request(prompt=LONG, max_tokens=9)
    llama.request(request)
    began = time.perf_counter()
    paused, ends = in_turns(llama, request, 2, wait=0.2)
    outside = time.perf_counter() - began - 0.2 * len(ends)

    timeline, own = paused.timeline, paused.timeline.without_pauses()
    lengths = [end - begin for begin, end in timeline.pauses]
    assert min(lengths) >= 0.2
    whole = timeline.token_times[-1] - timeline.t_start
    assert own.token_times[-1] - own.t_start == pytest.approx(whole - sum(lengths))
    assert own.token_times[-1] - own.t_start < outside
    assert own.pauses == ()
    # Times before the first pause are unchanged; later times moved up, in order.
    assert own.t_start == timeline.t_start
    assert own.t_prefill_start == timeline.t_prefill_start
    assert own.t_prefill_end is not None
    assert own.t_prefill_end < own.token_times[0]
    assert all(a < b for a, b in pairwise(own.token_times))
    steps = [own.token_times[b] - own.token_times[a] for a, b in pairwise((0, 2, 4, 6, 8))]
    assert timeline.decode_turns() == pytest.approx([step / 2 for step in steps])


def test_an_engine_that_waits_computes_nothing(llama: EngineClient) -> None:
    turns = llama.in_turns(Request(prompt=LONG, max_tokens=20), 4)
    process = psutil.Process(llama.pid)
    next(turns)
    # Threads may spin for a moment after their last computation.
    time.sleep(0.5)
    before = process.cpu_times()
    time.sleep(0.5)
    after = process.cpu_times()
    for _ in turns:
        pass

    assert after.user + after.system - before.user - before.system <= 0.02


def test_a_request_given_up_between_two_turns_ends_the_worker(
    llama_config: Callable[..., dict[str, Any]],
) -> None:
    client = EngineClient.start(LaunchSpec("llama_cpp", llama_config()))
    try:
        turns = client.in_turns(Request(prompt="hello", max_tokens=20), 4)
        next(turns)
        with pytest.raises(EngineError, match="another request is running"):
            client.request(Request(prompt="hello", max_tokens=2))
        turns.close()

        assert not client.alive
        with pytest.raises(EngineGoneError):
            client.request(Request(prompt="hello", max_tokens=2))
    finally:
        client.close()


def test_pauses_do_not_use_up_the_time_for_a_generation(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    source = """
        import time
        def answer(prompt):
            for _ in range(8):
                yield "a"
            if prompt == "hang":
                time.sleep(600)
    """
    client = clients(app_spec(source, generation_timeout=1.0))

    generation, ends = in_turns(client, Request(prompt="x", max_tokens=None), 2, wait=0.4)
    assert generation.text == "a" * 8
    assert ends == [1, 3, 5, 7]
    with pytest.raises(EngineGoneError, match="no answer in 1"):
        in_turns(client, Request(prompt="hang", max_tokens=None), 2, wait=0.1)


def test_an_application_works_only_in_its_turns(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    source = """
        import time
        async def answer(prompt):
            for _ in range(7):
                time.sleep(0.02)
                yield "a"
    """
    client = clients(app_spec(source))

    generation, ends = in_turns(client, Request(prompt="x", max_tokens=7), 3, wait=0.3)

    assert ends == [1, 4]
    own = generation.timeline.without_pauses()
    assert own.token_times[-1] - own.t_start < 0.3
    assert len(generation.timeline.decode_turns()) == 2


def test_a_planted_slowdown_does_not_grow_with_the_pauses(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    source = """
        import time
        def answer(prompt):
            for _ in range(9):
                time.sleep(0.02)
                yield "a"
    """
    client = clients(app_spec(source, plant=Plant(1.0)))

    generation, _ = in_turns(client, Request(prompt="x", max_tokens=9), 2, wait=1.0)

    own = generation.timeline.without_pauses()
    # Nine steps of 20 ms, eight of them twice as slow; with the pauses it would be 3 s more.
    assert own.token_times[-1] - own.t_start < 1.5


def test_a_streamed_request_takes_turns_too(llama: EngineClient) -> None:
    request = Request(prompt="hello", max_tokens=9, stream=True)

    generation, ends = in_turns(llama, request, 4)

    assert ends == [1, 5]
    assert len(generation.token_ids) == 9
    assert llama.request(Request(prompt="hello", max_tokens=9)).token_ids == generation.token_ids


def test_an_error_in_a_turn_leaves_the_worker_alive(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    source = """
        def answer(prompt):
            yield "a"
            if prompt == "bad":
                raise ValueError("worn out")
            yield "b"
    """
    client = clients(app_spec(source))

    with pytest.raises(EngineError, match="worn out"):
        in_turns(client, Request(prompt="bad", max_tokens=None), 1)

    assert in_turns(client, Request(prompt="x", max_tokens=None), 1)[0].text == "ab"
