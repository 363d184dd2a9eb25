"""A server's own counters: each server's names, and text that can't be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from server_simulator import ServerSimulator
from simulated_metrics import DIALECTS, Tally, metrics_of

from pytest_llmperf.engine.server.counters import (
    NoCountersError,
    ServerCounters,
    ask_counters,
    counters_session,
    parse_counters,
    read_counters,
)
from pytest_llmperf.engine.server.settings import ServerSettings

TALLY = Tally(3, 4, 0.625, 5, 1000, 64, 222)
SERVERS = {
    "vllm": "vLLM",
    "vllm_old": "vLLM",
    "sglang": "SGLang",
    "llama_cpp": "llama.cpp",
    "llama_cpp_old": "llama.cpp",
}
#: Quantities that a dialect does not publish, or publishes differently.
UNKNOWN: dict[str, dict[str, Any]] = {
    "llama_cpp": {"kv_use": None, "preemptions": None},
    # Without the prompt tokens that a cache served, whose number is unknown.
    "llama_cpp_old": {
        "preemptions": None,
        "prompt_tokens": 936,
        "cache_hits": None,
        "cache_queries": None,
    },
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_servers_names_lead_to_the_same_quantities(dialect: str) -> None:
    expected = {
        "running": 3,
        "waiting": 4,
        "kv_use": 0.625,
        "preemptions": 5,
        "prompt_tokens": 1000,
        "generated_tokens": 222,
        "cache_hits": 64,
        "cache_queries": 1000,
        **UNKNOWN.get(dialect, {}),
    }
    counters = parse_counters(metrics_of(TALLY, dialect).encode())
    assert counters == ServerCounters(SERVERS[dialect], **expected)


def test_what_is_not_published_is_unknown_and_not_zero() -> None:
    assert parse_counters(b"vllm:num_requests_running 0\n") == ServerCounters("vLLM", running=0)
    assert parse_counters(b"") is None
    assert parse_counters(b"go_goroutines 12\nprocess_cpu_seconds_total 3\n") is None


def test_engines_and_models_of_one_server_count_together() -> None:
    counters = parse_counters(
        b'vllm:num_requests_running{engine="0",model_name="a"} 3\n'
        b'vllm:num_requests_running{engine="1",model_name="a"} 4\n'
        b'vllm:num_requests_running{engine="0",model_name="b \\n \\" }"} 5 1700000000\n'
        b'vllm:kv_cache_usage_perc{engine="0"} 0.25\r\n'
        b'vllm:kv_cache_usage_perc{engine="1"} 0.75'
    )
    assert counters == ServerCounters("vLLM", running=12, kv_use=0.75)


def test_processes_that_compute_the_same_requests_count_once() -> None:
    counters = parse_counters(
        b'sglang:num_running_reqs{tp_rank="0",dp_rank="0"} 3\n'
        b'sglang:num_running_reqs{tp_rank="1",dp_rank="0"} 3\n'
        b'sglang:num_running_reqs{tp_rank="0",dp_rank="1"} 2\n'
        # A total, broken down by priority.
        b'sglang:num_queue_reqs{priority=""} 7\n'
        b'sglang:num_queue_reqs{priority="1"} 4\n'
        b'sglang:num_queue_reqs{priority="2"} 3\n'
    )
    assert counters == ServerCounters("SGLang", running=5, waiting=7)


@pytest.mark.parametrize(
    "line",
    [
        b"vllm:num_requests_waiting NaN",
        b"vllm:num_requests_waiting +Inf",
        b"vllm:num_requests_waiting -1",
        b"vllm:num_requests_waiting",
        b"vllm:num_requests_waiting ",
        b"vllm:num_requests_waiting many",
        b'vllm:num_requests_waiting{a="',
        b'vllm:num_requests_waiting{a="one\ntwo"} 1',
        b"vllm:num_requests_waiting{\xff} 1",
        b'vllm:num_requests_waiting{a="' + b"x" * 10_000 + b'"} 1',
        b"".join(b'vllm:num_requests_waiting{a="%d"} 1\n' % number for number in range(10_000)),
    ],
)
def test_a_line_that_is_no_number_spoils_its_own_quantity_only(line: bytes) -> None:
    text = b"# HELP vllm:num_requests_waiting x\n%b\nvllm:num_requests_running 2\n" % line
    counters = parse_counters(text)
    assert counters is not None
    assert (counters.running, counters.waiting) == (2, None)


def test_a_share_that_is_none_is_unknown() -> None:
    for value, share in ((b"1.004", 1.0), (b"37.5", None), (b"NaN", None)):
        counters = parse_counters(b"vllm:num_requests_running 1\nvllm:kv_cache_usage_perc " + value)
        assert counters is not None
        assert counters.kv_use == share


def failed_request(respond: Callable[[asyncio.StreamWriter], Any], **settings: Any) -> list[str]:
    """Return why asking a server for counters failed, and the requests that it received."""
    heard: list[str] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
        with suppress(ConnectionError):
            await respond(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        served.set()

    async def ask() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        of = ServerSettings(f"http://127.0.0.1:{port}/v1", **settings)
        with pytest.raises(NoCountersError) as caught:
            async with counters_session(of) as session:
                await ask_counters(session, of)
        heard.insert(0, f"{caught.value}{' (final)' if caught.value.final else ''}")
        await served.wait()
        server.close()

    asyncio.run(asyncio.wait_for(ask(), 60))
    return heard


def responding(head: str, body: bytes = b"") -> Callable[[asyncio.StreamWriter], Any]:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()

    return respond


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"vllm:num_requests_running 1\n" * 10_000)
        await writer.drain()


async def silent(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\nvllm:num_requests_running 1\n")
    await asyncio.sleep(1)


async def no_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"vllm:num_requests_running 1\n")


@pytest.mark.parametrize(
    ("respond", "why"),
    [
        (
            responding("404 Not Found"),
            "the server does not publish /metrics (llama-server needs --metrics, SGLang "
            "--enable-metrics) (final)",
        ),
        (responding("401 Unauthorized"), "/metrics: HTTP status 401 (final)"),
        (responding("302 Found\r\nLocation: http://127.0.0.1:9/"), "/metrics: HTTP status 302"),
        (responding("503 Busy"), "/metrics: HTTP status 503"),
        (
            responding("200 OK\r\nContent-Encoding: gzip", b"\x1f\x8b"),
            "/metrics is compressed, although that was not asked for (final)",
        ),
        (
            responding("200 OK\r\nContent-Type: text/html", b"<html>vllm:num_requests_running 1"),
            "/metrics has no counters of a known server (vLLM, SGLang, llama.cpp) (final)",
        ),
        (
            responding("200 OK\r\nContent-Length: 999", b"vllm:num_requests_running 1\n"),
            "/metrics could not be read: the connection broke",
        ),
        (no_http, "/metrics could not be read: the connection broke"),
        (endless, "/metrics is larger than 4 MiB (final)"),
        (silent, "/metrics was not answered within 0.3 s"),
    ],
)
def test_an_answer_that_is_none_says_why(
    respond: Callable[[asyncio.StreamWriter], Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_llmperf.engine.server.counters._TIMEOUT_S", 0.3)
    assert failed_request(respond)[0] == why


def test_it_is_asked_with_the_servers_key_which_no_message_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-1234")
    why, sent, *_ = failed_request(no_http, key_variable="MY_KEY", headers={"X-Team": "7"})
    assert sent.startswith("GET /metrics HTTP/1.1\r\n")
    assert "Authorization: Bearer sk-secret-1234\r\n" in sent
    assert "X-Team: 7\r\n" in sent
    assert "sk-secret" not in why


def test_counters_are_read_from_a_running_server() -> None:
    async def ask() -> ServerCounters | None:
        async with ServerSimulator(metrics="vllm") as server:
            server.tally = TALLY
            counters = await read_counters(ServerSettings(server.url))
            server.metrics = None
            assert await read_counters(ServerSettings(server.url)) is None
            return counters

    counters = asyncio.run(asyncio.wait_for(ask(), 60))
    assert counters is not None
    assert (counters.server, counters.running, counters.generated_tokens) == ("vLLM", 3, 222)
