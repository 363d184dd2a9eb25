"""A server's counters over a load: before, during and after it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from running_servers import running_server
from server_simulator import CACHED_TOKENS, PROMPT_TOKENS, ServerSimulator
from simulated_answers import Plan
from simulated_metrics import DIALECTS

from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.counter_watch import CounterWatch
from pytest_llmperf.engine.server.counters import ServerCounters
from pytest_llmperf.engine.server.generator import LoadGenerator
from pytest_llmperf.engine.server.schedule import closed
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.engine.server.settings import ServerSettings
from pytest_llmperf.stored_json import dump, read


async def under_load(
    url: str,
    *,
    concurrency: int = 6,
    requests: int = 12,
    tokens: int = 8,
    body: dict[str, Any] | None = None,
) -> tuple[ServerSide | None, CounterWatch]:
    settings = ServerSettings(url, api="completions", body=body or {})
    asking = [ServerRequest("Hello there", max_tokens=tokens)]
    async with ServerClient(settings) as client:
        async with CounterWatch(settings, interval=0.02) as watch:
            schedule = closed(concurrency, requests=requests)
            result = await LoadGenerator(client.ask, asking, schedule).run()
    assert len(result.answered) == requests
    return watch.summary, watch


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_load_on_two_slots_is_seen_to_queue(dialect: str) -> None:
    async def watched() -> ServerSide | None:
        async with ServerSimulator(Plan(first=0.05, gap=0.01), slots=2, metrics=dialect) as server:
            server.tally.kv_use, server.tally.generated_tokens = 0.5, 1_000_000
            side, _ = await under_load(server.url)
            return side

    side = asyncio.run(asyncio.wait_for(watched(), 60))
    assert side is not None
    assert side.readings >= 3
    assert side.failed == 0
    assert side.running is not None
    assert side.running.peak == 2
    assert side.waiting is not None
    assert side.waiting.peak == 4
    assert side.waiting_share is not None
    assert side.waiting_share > 0.4
    # Only tokens of the load itself are counted.
    assert side.generated_tokens == 12 * 8
    assert side.kv_use is None or side.kv_use.peak == 0.5
    assert (side.kv_use is None) == (dialect == "llama_cpp")
    if dialect == "llama_cpp_old":
        assert (side.cache_hits, side.prompt_tokens) == (None, 12 * (PROMPT_TOKENS - CACHED_TOKENS))
    else:
        assert (side.cache_hits, side.prompt_tokens) == (12 * CACHED_TOKENS, 12 * PROMPT_TOKENS)
        assert side.cache_queries in (12 * PROMPT_TOKENS, 30 * 12 * PROMPT_TOKENS)
    assert side.preemptions == (None if dialect == "llama_cpp" else side.preemptions)


def test_a_server_without_metrics_is_asked_once_and_told() -> None:
    async def watched() -> tuple[ServerSide | None, CounterWatch, int]:
        async with ServerSimulator(Plan(first=0.05)) as server:
            return *await under_load(server.url), server.metrics_asked

    side, watch, times = asyncio.run(asyncio.wait_for(watched(), 60))
    assert side is None
    assert watch.problem.startswith("the server does not publish /metrics")
    assert times == 1


def test_a_load_that_fails_ends_the_watch() -> None:
    async def watched() -> int:
        async with ServerSimulator(metrics="vllm") as server:
            with pytest.raises(RuntimeError, match="a mistake"):
                async with CounterWatch(ServerSettings(server.url), interval=0.01):
                    raise RuntimeError("a mistake")
            asked = server.metrics_asked
            await asyncio.sleep(0.1)
            assert server.metrics_asked == asked
            return asked

    assert asyncio.run(asyncio.wait_for(watched(), 60)) == 2


def counters(**values: Any) -> ServerCounters:
    return ServerCounters("SGLang", **values)


def test_counts_of_a_load_are_those_between_the_readings_around_it() -> None:
    side = ServerSide.of(
        counters(generated_tokens=100, cache_hits=None, prompt_tokens=7),
        [
            counters(running=2, waiting=0, kv_use=0.5, generated_tokens=110),
            counters(running=4, waiting=3, kv_use=None, generated_tokens=120),
        ],
        counters(generated_tokens=150, cache_hits=9, prompt_tokens=None),
    )
    assert side is not None
    assert side.running is not None
    assert (side.running.peak, side.running.mean) == (4.0, 3.0)
    assert side.kv_use is not None
    assert side.kv_use.mean == 0.5
    assert side.waiting_share == 0.5
    assert side.generated_tokens == 50
    # SGLang publishes a counter with its first event; one that is gone at the end is unknown.
    assert side.cache_hits == 9
    assert side.prompt_tokens is None
    assert side.preemptions is None
    assert not side.went_back


def test_a_counter_that_could_not_be_read_before_is_unknown() -> None:
    before = counters(running=0, incomplete=True)
    side = ServerSide.of(before, [], counters(running=0, cache_hits=9))
    assert side is not None
    assert side.cache_hits is None
    assert side.running is None


@pytest.mark.parametrize(
    "readings",
    [
        [counters(generated_tokens=100), counters(generated_tokens=20)],
        [counters(running=1), ServerCounters("vLLM", running=1)],
    ],
)
def test_counters_that_go_back_are_no_counts_of_one_server(readings: list[ServerCounters]) -> None:
    side = ServerSide.of(readings[0], readings, counters(generated_tokens=150, preemptions=3))
    assert side is not None
    assert side.went_back
    assert (side.generated_tokens, side.preemptions) == (None, None)


def test_a_summary_is_plain_json() -> None:
    side = ServerSide.of(
        counters(generated_tokens=1), [counters(running=2)], counters(generated_tokens=5)
    )
    assert side is not None
    assert read(ServerSide, json.loads(json.dumps(dump(side)))) == side


def test_llama_cpps_own_server_counts_a_load() -> None:
    with running_server("--parallel", "2", "--metrics") as server:
        body = {"ignore_eos": True, "cache_prompt": False}
        watched = under_load(server.url, tokens=64, requests=40, body=body)
        side, _ = asyncio.run(asyncio.wait_for(watched, 120))
    assert side is not None
    assert (side.server, side.went_back) == ("llama.cpp", False)
    assert side.generated_tokens == 40 * 64
    assert side.prompt_tokens == 40 * (1 + len("Hello there"))
    assert (side.cache_hits, side.cache_queries) == (0, side.prompt_tokens)
    assert side.running is not None
    assert side.running.peak <= 2


def test_llama_cpps_own_server_publishes_nothing_unasked() -> None:
    with running_server("--parallel", "2") as server:
        side, watch = asyncio.run(asyncio.wait_for(under_load(server.url), 120))
    assert side is None
    assert watch.problem.startswith("the server does not publish /metrics")
