"""Servers' own counters around requests that are sent one at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.measure.server_use import ServerUse, UseCounters, generated_by_server
from pytest_llmperf.run import Run
from pytest_llmperf.session.server_lines import server_lines

Clients = Callable[..., EngineClient]
Simulator = Callable[..., str]


def counted(client: EngineClient) -> ServerUse | None:
    reader = UseCounters(client)
    timelines = []
    for _ in range(3):
        # Only the reading before the first request counts.
        reader.begin()
        timelines.append(client.request(build_request(prompt="Hello", max_tokens=6)).timeline)
    return reader.use([Run.in_order(timelines)])


def test_what_a_server_counts_of_them_is_shown(clients: Clients, simulator: Simulator) -> None:
    url = simulator("--metrics", "vllm")
    use = counted(clients(url=url))
    assert use is not None
    assert (use.answered, use.tokens, use.tokens_asked) == (3, 18, 18)
    assert generated_by_server([use]) == {url: 18}
    assert server_lines([use]) == (
        "vLLM's own counters: 0 preemptions, 40% of the prompt tokens from its cache",
    )


def test_each_replica_is_asked_instead_of_the_balancer(
    clients: Clients, simulator: Simulator
) -> None:
    first, second = simulator("--metrics", "sglang"), simulator("--metrics", "sglang")
    use = counted(clients(url=f"{first}/v1", replicas=[first, second]))
    assert use is not None
    assert generated_by_server([use]) == {first: 18, second: 0}
    assert server_lines([use])[1] == (
        f"requests by replica, estimated from output tokens: {first} 100% (about 3), {second} 0% "
        "(about 0)"
    )


def test_a_server_that_publishes_nothing_is_left_out(
    clients: Clients, simulator: Simulator
) -> None:
    assert counted(clients(url=simulator())) is None
    assert server_lines([]) == ()


@pytest.mark.parametrize("arguments", [("--metrics",), ()])
def test_a_server_that_is_started_here_has_a_name_that_stays(
    clients: Clients, llama_command: str, arguments: tuple[str, ...]
) -> None:
    client = clients(start=" ".join([llama_command, *arguments]), api="completions")
    (counters,) = client.counters().items()
    assert counters[0] == "llm.start"
    assert (counters[1] is not None) == bool(arguments)
