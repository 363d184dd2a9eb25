"""Replicas behind one address: what must be the same in all, and what tells them apart."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable

import pytest
from running_servers import running_server

from pytest_llmperf.config.llm_section import read_llm
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.kinds import ATTACHED_SERVER
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.engine.server.about import ServerDescription
from pytest_llmperf.engine.server.replicas import replica_difference, unreachable
from pytest_llmperf.engine.server.schedule import closed
from pytest_llmperf.engine.server.settings import ServerSettings

Clients = Callable[..., EngineClient]
Simulator = Callable[..., str]


def truths(url: str) -> int:
    with urllib.request.urlopen(f"{url}/truth", timeout=30) as response:
        return len(json.load(response)["truths"])


def test_each_replica_is_warmed_up_and_their_number_is_part_of_the_name(
    clients: Clients, simulator: Simulator
) -> None:
    urls = [simulator(), simulator(), simulator()]
    balanced = urls[0] + "/v1"
    client = clients(url=balanced, replicas=urls)
    assert [truths(url) for url in urls] == [2, 1, 1]
    assert client.info.model_name == f"simulated, 3 replicas behind {balanced}"
    alone = clients(url=balanced)
    assert alone.info.model_name == f"simulated at {balanced}"
    llm = read_llm({"engine": "server", "url": balanced, "replicas": urls})
    assert ATTACHED_SERVER.identity_without_model(llm.resolved()) == f"3 replicas behind {balanced}"


def test_the_routing_is_part_of_the_name(clients: Clients, simulator: Simulator) -> None:
    url = simulator()
    section = {"url": f"{url}/v1", "routing": "least connections"}
    both = {**section, "replicas": [url, simulator()]}
    where = f"{url}/v1 (routing: least connections)"
    assert clients(**section).info.model_name == f"simulated at {where}"
    assert clients(**both).info.model_name == f"simulated, 2 replicas behind {where}"
    llm = read_llm({"engine": "server", **section})
    assert ATTACHED_SERVER.identity_without_model(llm.resolved()) == f"server at {where}"


def test_a_replica_that_runs_something_else_is_refused(
    clients: Clients, simulator: Simulator
) -> None:
    first, other = simulator(), simulator(model="another")
    with pytest.raises(EngineLoadError) as caught:
        clients(url=f"{first}/v1", replicas=[first, other])
    assert str(caught.value) == (
        f"the replicas serve different models: simulated at {first}, another at {other}; start all "
        "of them alike, and name each in llm.replicas"
    )


def test_what_differs_between_replicas_is_named() -> None:
    about = ServerDescription("tiny", "b1", True, 10, 20, 256, "F32")
    same = [("http://a", about), ("http://b", about)]
    assert replica_difference([("http://a", about)]) == replica_difference(same) == ""
    for other, text in (
        (about._replace(model_bytes=21), "models: tiny, F32, 10 parameters, 20 bytes at http://a,"),
        (about._replace(build=""), "builds: b1 at http://a, unknown at http://c;"),
        (about._replace(n_ctx=512), "context sizes: 256 at http://a, 512 at http://c;"),
    ):
        assert text in replica_difference([*same, ("http://c", other)])


def test_a_replica_that_does_not_answer_is_named(clients: Clients, simulator: Simulator) -> None:
    url = simulator()
    text = r"^llm.replicas: http://127.0.0.1:9: the server does not answer .* and of the balancer$"
    with pytest.raises(EngineLoadError, match=text):
        clients(url=f"{url}/v1", replicas=[url, "http://127.0.0.1:9"])


def test_replicas_behind_a_proxy_are_looked_for_through_it(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", simulator())
    servers = [
        ServerSettings("http://server.invalid", proxy_from_environment=True),
        ServerSettings("http://127.0.0.1:9"),
    ]
    assert asyncio.run(unreachable(servers)) == ["http://127.0.0.1:9"]


def test_a_replica_that_is_gone_after_a_load_is_named_though_no_request_failed(
    clients: Clients, llama_url: str
) -> None:
    with running_server() as doomed:
        replicas = [llama_url, doomed.url]
        client = clients(url=f"{llama_url}/v1", api="completions", replicas=replicas)
        load = [build_request(prompt="Hello", max_tokens=4)], closed(1, requests=2)
        assert len(client.load(*load).answered) == 2
    text = (
        f"no server answers at {doomed.url} any more, so the load did not run on 2 replicas; start"
    )
    with pytest.raises(EngineError, match=text):
        client.load(*load)
