"""The client's answers and faults with a server whose behaviour is known."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import traceback
from typing import Any

import aiohttp
import pytest
from server_simulator import ServerSimulator
from simulated_answers import Plan

from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest, Usage
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.fault import ServerFault
from pytest_llmperf.engine.server.settings import ServerSettings, ServerSettingsError
from pytest_llmperf.engine.server.sse import SseEvent, SseParser

KEY = "sk-0123456789abcdef"


def ask(
    plan: Plan | None = None, request: ServerRequest | None = None, **settings: Any
) -> tuple[ServerAnswer | ServerFault, ServerSimulator]:
    """Send one request to a simulated server, and wait ten seconds at most."""

    async def exchange() -> tuple[ServerAnswer | ServerFault, ServerSimulator]:
        async with ServerSimulator(plan or Plan()) as server:
            async with ServerClient(ServerSettings(server.url, **settings)) as client:
                try:
                    answer: Any = await client.ask(request or ServerRequest("hi", max_tokens=4))
                    assert isinstance(answer, ServerAnswer)
                except ServerFault as fault:
                    answer = fault
            return answer, server

    return asyncio.run(asyncio.wait_for(exchange(), 10))


def answer_of(plan: Plan | None = None, **settings: Any) -> ServerAnswer:
    answer, _ = ask(plan, **settings)
    assert isinstance(answer, ServerAnswer), answer
    return answer


def fault_of(plan: Plan | None = None, **settings: Any) -> ServerFault:
    fault, _ = ask(plan, **settings)
    assert isinstance(fault, ServerFault)
    return fault


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_an_answer_has_its_chunks_counts_and_origin(api):
    answer = answer_of(Plan(tokens_per_chunk=2, first=0.01, gap=0.005), api=api)
    assert answer.text == "aé…😀"
    assert [chunk.kind for chunk in answer.chunks] == ["text", "text", "finish", "usage"]
    assert (answer.usage, answer.output_tokens) == (Usage(5, 4, 2), 4)
    assert (answer.finish_reason, answer.model, answer.fingerprint) == ("length", "simulated", "b1")
    times = [answer.asked, answer.sent, *(chunk.time for chunk in answer.chunks), answer.finished]
    assert times == sorted(times)
    # The connection was made in between.
    assert answer.asked < answer.sent


def test_chunks_arrive_when_the_server_wrote_them():
    answer, server = ask(Plan(first=0.03, gap=0.02))
    written = [at for at, _ in server.truths[0].chunks]
    arrived = [chunk.time for chunk in answer.output_chunks]
    assert len(written) == len(arrived) == 4
    assert all(at <= come for at, come in zip(written, arrived, strict=True))
    assert answer.sent <= server.truths[0].received


def test_reasoning_the_role_and_tool_calls_are_told_apart():
    plan = Plan(role_first=True, reasoning=2, tool_calls=True)
    answer = answer_of(plan)
    kinds = ["role", "reasoning", "reasoning", "tool_call", "tool_call", "finish", "usage"]
    assert [chunk.kind for chunk in answer.chunks] == kinds
    assert (answer.text, len(answer.output_chunks)) == ("", 4)
    assert "".join(chunk.reasoning for chunk in answer.chunks) == "aé"


@pytest.mark.parametrize(
    ("plan", "usage"),
    [
        (Plan(usage="with_choices"), Usage(5, 4, 2)),
        (Plan(usage="truncated"), Usage(5, None, 2)),
        (Plan(usage="none"), Usage()),
    ],
)
def test_counts_are_taken_from_where_they_stand(plan, usage):
    assert answer_of(plan).usage == usage


def test_timings_of_llama_cpp_are_kept_and_count_where_usage_is_missing():
    answer = answer_of(Plan(timings=True, usage="none"))
    assert answer.timings == {"cache_n": 2, "prompt_n": 3, "predicted_n": 4}
    assert answer.output_tokens == 4


@pytest.mark.parametrize(
    "plan",
    [
        Plan(piece=1, line_end="\r\n"),
        Plan(piece=7, comments=True),
        Plan(done=False),
        Plan(finish=None),
    ],
)
def test_streams_of_other_forms_are_read_as_well(plan):
    answer = answer_of(plan)
    assert answer.text == "aé…😀"
    assert answer.finished >= answer.chunks[-1].time


def test_a_request_is_sent_as_the_api_asks_for_it():
    body = {"seed": 1, "stream_options": None}
    _, server = ask(api="completions", model="m", body=body)
    assert server.bodies == [
        {"model": "m", "stream": True, "max_tokens": 4, "prompt": "hi", "seed": 1}
    ]
    _, server = ask(request=ServerRequest(messages=({"role": "user", "content": "x"},)))
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "x"}]
    assert server.bodies[0]["stream_options"] == {"include_usage": True}
    _, server = ask()
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]


FAULTS = {
    "reset": (Plan(fault="reset"), "reset", 200),
    "half a frame, and the end": (Plan(fault="half_frame"), "cut_short", 200),
    "the end too early": (Plan(fault="cut_short"), "cut_short", 200),
    "neither reason nor end": (Plan(finish=None, done=False), "cut_short", 200),
    "no token at all": (Plan(fault="cut_short", fault_at=0), "cut_short", 200),
    "stall": (Plan(fault="stall"), "idle_timeout", 200),
    "stall before the first token": (Plan(first=30.0), "idle_timeout", 200),
    "slow body": (Plan(fault="slow_body"), "total_timeout", 200),
    "no JSON": (Plan(fault="bad_frame"), "bad_frame", 200),
    "no stream": (Plan(fault="no_stream"), "bad_frame", 200),
    "no HTTP": (Plan(fault="no_http"), "bad_frame", None),
    "compressed": (Plan(fault="compressed"), "bad_frame", 200),
    "a frame without end": (Plan(fault="endless_frame"), "bad_frame", 200),
    "too many requests": (Plan(fault="status"), "status", 429),
    "an error as an answer": (Plan(fault="status", status=200), "server_error", 200),
    "a redirect": (Plan(fault="status", status=307), "status", 307),
    "error event": (Plan(fault="error_event"), "server_error", 200),
    "error frame": (Plan(fault="error_frame"), "server_error", 200),
    "error field": (Plan(fault="error_field"), "server_error", 200),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_kept_with_its_kind_and_without_the_key(case, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SERVER_KEY", KEY)
    plan, kind, status = FAULTS[case]
    monkeypatch.setenv("SERVER_ROUTE", "route-abcdef")
    plan = Plan(**{**vars(plan), "error": f"no memory for {KEY} at route-abcdef"})
    settings = {
        "idle_s": 0.3,
        "total_s": 1.0,
        "key_variable": "SERVER_KEY",
        "headers": {"X-Api-Token": "token-abcdef"},
        # Its value comes from the environment, as keys do, so it is hidden under any name.
        "header_variables": {"X-Route": "SERVER_ROUTE"},
    }
    answer, server = ask(plan, **settings)
    assert isinstance(answer, ServerFault)
    assert (answer.kind, answer.status) == (kind, status)
    assert server.url in str(answer)
    assert server.truths[0].authorization == f"Bearer {KEY}"
    if plan.fault_at and status == 200 and plan.first < 1 and plan.status != 200:
        early = plan.fault in ("no_stream", "compressed")
        assert bool(answer.chunks) != early
    shown = [str(answer), repr(answer), caplog.text, repr(vars(answer))]
    shown += traceback.format_exception(answer)
    assert answer.__context__ is None
    hidden = (KEY, "token-abcdef", "route-abcdef")
    assert not [text for text in shown if any(secret in text for secret in hidden)]


def test_a_key_is_sent_in_the_header_that_is_named(monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    answer, server = ask(header_variables={"authorization": "SERVER_KEY"})
    assert isinstance(answer, ServerAnswer), answer
    assert server.truths[0].authorization == KEY


def test_a_long_prompt_is_sent_without_a_warning():
    answer, server = ask(request=ServerRequest("word " * 500_000, max_tokens=2))
    assert isinstance(answer, ServerAnswer), answer
    assert len(server.bodies[0]["messages"][0]["content"]) == 2_500_000


def test_a_server_that_is_not_there_or_does_not_accept():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fault = asyncio.run(_ask_once(ServerSettings(f"http://127.0.0.1:{port}")))
    assert (fault.kind, fault.status, fault.sent) == ("connect", None, None)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        full.setblocking(False)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        settings = ServerSettings(f"http://127.0.0.1:{full.getsockname()[1]}", connect_s=0.3)
        fault = asyncio.run(_ask_once(settings))
        for client in waiting:
            client.close()
    assert (fault.kind, fault.status) == ("connect", None)
    assert "no connection within 0.3 s" in str(fault)


async def _ask_once(settings: ServerSettings) -> ServerFault:
    async with ServerClient(settings) as client:
        with pytest.raises(ServerFault) as caught:
            await client.ask(ServerRequest("hi"))
    return caught.value


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://me:hidden-1@127.0.0.1:9/v1?key=hidden-2", {}),
        ("http://127.0.0.1:9/v1?key=hidden-2", {"headers": {"Authorization": "Basic hidden-3"}}),
        ("http://127.0.0.1:9/v1?key=hidden-2", {"key_variable": "SERVER_KEY"}),
    ],
)
def test_whatever_grants_access_is_never_shown(url, more, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    settings = ServerSettings(url, **more)
    fault = asyncio.run(_ask_once(settings))
    shown = [repr(settings), str(settings), repr(ServerClient(settings)), str(fault)]
    assert fault.kind == "connect"
    assert not [text for text in shown if "hidden" in text or KEY in text]
    assert settings.endpoint.endswith("/v1/chat/completions?key=hidden-2")


def test_connections_are_kept_and_as_many_as_asked_for():
    async def exchange() -> tuple[int, int, bool]:
        async with ServerSimulator(Plan(first=0.02)) as server:
            async with ServerClient(ServerSettings(server.url)) as client:
                for _ in range(5):
                    await client.ask(ServerRequest("hi"))
                kept = server.connections
                await asyncio.gather(*(client.ask(ServerRequest("hi")) for _ in range(150)))
                assert client._session is not None
                connector = client._session.connector
                assert connector is not None
                protocols = [entry[0] for pool in connector._conns.values() for entry in pool]
                sockets = [protocol.transport.get_extra_info("socket") for protocol in protocols]
                no_delay = all(
                    sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in sockets
                )
            return kept, server.connections, no_delay and len(sockets) > 100

    assert asyncio.run(exchange()) == (1, 150, True)


def test_a_proxy_of_the_environment_is_used_only_when_asked_for(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert answer_of().output_tokens == 4
    fault = fault_of(proxy_from_environment=True)
    assert fault.kind == "connect"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert answer_of(proxy_from_environment=True).output_tokens == 4


def test_passwords_of_netrc_are_not_read(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password sesame\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("SERVER_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _, server = ask(key_variable="SERVER_KEY", proxy_from_environment=True)
    assert server.truths[0].authorization == f"Bearer {KEY}"
    _, server = ask(proxy_from_environment=True)
    assert server.truths[0].authorization is None


@pytest.mark.parametrize("login", ["me:sesame", "me:%73esame", "sesame", "sesame:"])
def test_the_password_of_a_proxy_is_never_shown(monkeypatch, login):
    async def exchange() -> str:
        async with ServerSimulator(Plan(fault="status", error="who is sesame?")) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url.replace("//", f"//{login}@"))
            settings = ServerSettings("http://server.invalid", proxy_from_environment=True)
            async with ServerClient(settings) as client:
                with pytest.raises(ServerFault) as caught:
                    await client.ask(ServerRequest("hi"))
            return str(caught.value)

    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert "who is ***?" in asyncio.run(asyncio.wait_for(exchange(), 10))


@pytest.mark.parametrize(
    "proxy",
    [
        "me:sesame@proxy:3128",
        "https://me:sesame@proxy:3128",
        "http://",
        "http://me:sesame@",
        "http://me:sesame@[x",
        "http://me:sesame@proxy:x",
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_being_shown(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    text = "^the proxy that the environment names for http can't be used: it needs http://"
    with pytest.raises(ServerSettingsError, match=text) as caught:
        ask(proxy_from_environment=True)
    assert "sesame" not in str(caught.value)


def test_a_connection_that_stays_busy_after_the_end_is_not_waited_for(monkeypatch):
    async def exchange() -> float:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            chunk = b'data: {"choices":[{"text":"a","finish_reason":"stop"}]}\n\n'
            writer.write(head + chunk + b"data: [DONE]\n\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(slow, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with ServerClient(ServerSettings(url, idle_s=30)) as client:
                began = time.perf_counter()
                answer = await client.ask(ServerRequest("hi"))
                assert answer.finished - began < 5
        return answer.finish_reason == "stop"

    assert asyncio.run(asyncio.wait_for(exchange(), 10))


def test_a_cancelled_request_leaves_nothing_open():
    async def exchange() -> None:
        async with ServerSimulator(Plan(fault="stall")) as server:
            async with ServerClient(ServerSettings(server.url)) as client:
                asking = asyncio.ensure_future(client.ask(ServerRequest("hi")))
                await asyncio.sleep(0.1)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                assert isinstance(client._session, aiohttp.ClientSession)
                assert not client._session.connector._acquired

    asyncio.run(asyncio.wait_for(exchange(), 10))


STREAM = b'data: {"choices":[{"text":"a","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s" % (
    len(STREAM),
    STREAM,
)


def test_arrival_is_when_bytes_left_the_socket_and_not_when_they_were_parsed(monkeypatch):
    parsed = []
    feed = SseParser.feed

    def noted(parser: SseParser, data: bytes) -> list[SseEvent]:
        parsed.append(time.perf_counter())
        return feed(parser, data)

    monkeypatch.setattr(SseParser, "feed", noted)

    async def exchange(listening: socket.socket) -> list[ServerAnswer]:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with ServerClient(ServerSettings(url)) as client:
            asking = [asyncio.ensure_future(client.ask(ServerRequest("hi"))) for _ in range(4)]
            served = []
            for _ in asking:
                connection, _ = await asyncio.get_running_loop().sock_accept(listening)
                served.append(connection)
            await asyncio.sleep(0.1)
            # All answers are there before the event loop looks at one of them.
            for connection in served:
                connection.sendall(RESPONSE)
            answers = await asyncio.gather(*asking)
            for connection in served:
                connection.close()
        return answers

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        answers = asyncio.run(asyncio.wait_for(exchange(listening), 10))
    assert [answer.text for answer in answers] == ["a"] * 4
    assert len(parsed) == 4
    assert max(answer.chunks[0].time for answer in answers) < min(parsed)


class ClosingServer:
    """Answers some requests per connection, then closes it without having announced that.

    llama.cpp's server does so after one answer, others after some hundred.
    """

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self.connections = 0
        #: Whether each request that was answered asked for its connection to be closed.
        self.asked_to_close: list[bool] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self._answers):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(size)
            self.asked_to_close.append(b"connection: close" in head)
            writer.write(RESPONSE)
            if self.asked_to_close[-1]:
                break
        # The client sends its next request at once, before it can notice the end.
        writer.close()


def asked_of(server: ClosingServer, count: int) -> list[ServerAnswer]:
    async def exchange() -> list[ServerAnswer]:
        async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            async with ServerClient(ServerSettings(url)) as client:
                return [await client.ask(ServerRequest("hi")) for _ in range(count)]

    return asyncio.run(asyncio.wait_for(exchange(), 10))


def test_a_connection_that_the_server_closed_costs_no_request():
    server = ClosingServer(3)
    answers = asked_of(server, 7)
    assert [answer.text for answer in answers] == ["a"] * 7
    assert all(answer.asked <= answer.sent <= answer.chunks[0].time for answer in answers)
    # Connections that are closed only now and then are still worth keeping.
    assert (server.connections, server.asked_to_close) == (3, [False] * 7)


def test_connections_that_serve_one_answer_each_are_not_kept():
    server = ClosingServer(1)
    assert [answer.text for answer in asked_of(server, 4)] == ["a"] * 4
    assert (server.connections, server.asked_to_close) == (4, [False, True, True, True])


def test_a_request_is_not_sent_again_on_a_new_connection():
    with pytest.raises(ServerFault, match="the connection broke") as error:
        asked_of(ClosingServer(0), 1)
    assert error.value.kind == "reset"
