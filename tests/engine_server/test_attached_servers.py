"""A server that runs already: what its answers may lack, and how the engine treats that."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.kinds import ATTACHED_SERVER, SERVER
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.engine.server.engine import ServerEngine
from pytest_llmperf.machine.fitness import HostNeeds
from pytest_llmperf.measure.replication import BLOCK, FRESH_PROCESS, replication_unit
from pytest_llmperf.measure.workload import RecordedRequest
from pytest_llmperf.session.machine_watch import WatchSettings, settings_for

Clients = Callable[..., EngineClient]
Simulator = Callable[..., str]


def ask(client: EngineClient, **options: Any) -> Generation:
    return client.request(build_request(**{"prompt": "Hello", "max_tokens": 6, **options}))


def test_capabilities_follow_from_the_section(server_spec: Callable[..., LaunchSpec]) -> None:
    started = server_spec(start="serve {port}").kind
    attached = server_spec(url="http://127.0.0.1:1").kind
    assert (started, attached) == (SERVER, ATTACHED_SERVER)
    assert started.name == attached.name == "server"
    assert started.computes_here
    assert started.restarts
    assert not started.pauses
    assert not attached.computes_here
    assert not attached.restarts
    assert replication_unit(started) is FRESH_PROCESS
    assert replication_unit(attached) is BLOCK

    # The load of an attached server can't be told from other load.
    settings = WatchSettings(HostNeeds(0, cores=2), telemetry=object())  # type: ignore[arg-type]
    assert settings_for(settings, started) is settings
    remote = settings_for(settings, attached)
    assert (remote.telemetry, remote.severities) == (None, {"busy_cores": "note"})
    assert "not watched" in remote.no_gpu


def test_chunks_of_several_tokens_are_counted_as_the_server_counts(
    clients: Clients, simulator: Simulator
) -> None:
    client = clients(url=simulator(tokens_per_chunk=4, gap=0.002, reasoning=2, role_first=True))
    generation = ask(client, max_tokens=10)
    times = generation.timeline.token_times
    # Two reasoning tokens, then two chunks of four.
    assert (generation.output_tokens, len(times)) == (10, 3)
    assert generation.metrics["tokens_per_sec"] == pytest.approx(9 / (times[-1] - times[0]))
    assert client.info.model_name.startswith("simulated at http://127.0.0.1:")
    assert client.info.engine_version == "b1"
    assert client.processes == ()


def test_a_server_that_counts_no_tokens_is_refused_with_what_to_set(
    clients: Clients, simulator: Simulator
) -> None:
    with pytest.raises(EngineLoadError, match=r"chunks are not tokens; use .* llm\.body"):
        clients(url=simulator(usage="none"))


def test_an_answer_of_another_length_than_asked_is_invalid_or_an_error(
    clients: Clients, simulator: Simulator
) -> None:
    request = build_request(prompt="Hello", max_tokens=6)
    stopped = clients(url=simulator(tokens=4, finish="stop")).request(request)
    assert stopped.finish_reason == "eos"
    finding = RecordedRequest.of(request, stopped).why_not_same_work(stopped)
    assert finding is not None
    assert finding.name == "cut_short"
    assert finding.text == (
        "generation cut short: the answer ended by itself after 4 of 6 output tokens, because the "
        "engine does not support ignore_eos; pass ignore_eos=False"
    )
    free = build_request(prompt="Hello", max_tokens=6, ignore_eos=False)
    assert RecordedRequest.of(free, stopped).why_not_same_work(stopped) is None
    with pytest.raises(EngineError, match="context was full after 4 of 6"):
        ask(clients(url=simulator(tokens=4)))
    with pytest.raises(EngineLoadError, match="generated 9 tokens although 4 were requested"):
        clients(url=simulator(tokens=9))


def test_a_prompt_from_a_cache_that_nobody_asked_for_is_invalid(
    clients: Clients, simulator: Simulator
) -> None:
    url = simulator()
    request = build_request(prompt="Hello", max_tokens=6)
    cached = clients(url=url, api="completions").request(request)
    assert (cached.timeline.prompt_tokens, cached.timeline.prompt_tokens_evaluated) == (5, 3)
    finding = RecordedRequest.of(request, cached).why_not_same_work(cached)
    assert finding is not None
    assert finding.text == "prompt served from a cache: 3 of its 5 tokens evaluated"
    # The head of a chat template comes from a cache, whatever the prompt is.
    assert ask(clients(url=url)).timeline.prompt_tokens_evaluated == 5
    shared = clients(url=url, api="completions", cache="shared").request(request)
    assert shared.timeline.prompt_tokens_evaluated is None
    assert RecordedRequest.of(request, shared).why_not_same_work(shared) is None


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ({"fault": "status", "status": 401}, "status 401: .*llm.api_key_env"),
        ({"fault": "status", "status": 404}, "status 404: .*llm.api says which API"),
        ({"fault": "error_frame"}, "reported an error in its stream"),
        ({"fault": "cut_short"}, "ended its stream before the answer was finished"),
    ],
)
def test_a_fault_of_the_first_request_is_a_load_error(
    clients: Clients, simulator: Simulator, plan: dict[str, Any], text: str
) -> None:
    with pytest.raises(EngineLoadError, match=text):
        clients(url=simulator(**plan))


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ({"idle_timeout": "300ms"}, "silent for 0.3 s; if it may be silent for longer, raise"),
        ({"generation_timeout": 0.5}, "0.475 s; if it needs longer, raise llm.generation_timeout"),
    ],
)
def test_limits_of_an_answer_end_requests_and_not_the_first_one(
    clients: Clients, simulator: Simulator, limit: dict[str, Any], text: str
) -> None:
    """A server may have to load or compile before it answers at all."""
    client = clients(url=simulator(first=0.8), **limit)
    with pytest.raises(EngineError, match=re.escape(text)):
        ask(client)


def test_a_first_answer_may_take_what_is_left_of_the_time_to_load(
    server_spec: Callable[..., LaunchSpec], simulator: Simulator
) -> None:
    spec = server_spec(url=simulator(first=30.0), load_timeout="500ms", idle_timeout="100ms")
    text = (
        r"first request: .*not finished in 0\.[234] s; if it needs longer, raise llm\.load_timeout"
    )
    with pytest.raises(EngineLoadError, match=text):
        ServerEngine(spec.config)


@pytest.mark.parametrize(("scheme", "status"), [("https", 407), ("http", 407), ("http", 403)])
def test_a_proxy_that_refuses_is_named_without_its_password(
    clients: Clients,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    status: int,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    proxy = simulator(fault="status", status=status)
    monkeypatch.setenv(f"{scheme}_proxy", proxy.replace("//", "//me:sesame@"))
    with pytest.raises(EngineLoadError) as caught:
        clients(url=f"{scheme}://server.invalid/v1", proxy_from_environment=True)
    text = str(caught.value)
    assert f"through the proxy {proxy}: if it is the one that refuses" in text
    assert f"environment variable {scheme}_proxy" in text
    refusal = f"the proxy {proxy} refused the connection: {status} "
    assert (refusal in text) == (scheme == "https")
    assert "not HTTP" not in text
    assert "sesame" not in text


def test_a_server_behind_a_proxy_is_asked_through_it(
    clients: Clients, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", simulator())
    client = clients(url="http://server.invalid/v1", proxy_from_environment=True)
    assert ask(client).output_tokens == 6
    assert client.info.model_name == "simulated at http://server.invalid/v1"


def test_the_garbage_collector_is_quiet_during_a_request(
    server_spec: Callable[..., LaunchSpec], simulator: Simulator
) -> None:
    engine = ServerEngine(server_spec(url=simulator(gap=0.001)).config)
    seen = set()

    def note(_phase: str, info: dict[str, int]) -> None:
        seen.add((info["generation"], gc.get_freeze_count() > 0))

    thresholds = gc.get_threshold()
    gc.set_threshold(20, 1, 1)
    gc.callbacks.append(note)
    try:
        engine.generate(build_request(prompt="Hello", max_tokens=100), None)
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
        engine.close()
    # The collector looks at young objects meanwhile, but not at those that existed before.
    assert (0, True) in seen
    assert (2, True) not in seen
    assert gc.get_freeze_count() == 0


def test_nothing_answers_at_the_address(clients: Clients) -> None:
    with pytest.raises(EngineLoadError, match=r"does not answer a first request: .*no connection"):
        clients(url="http://127.0.0.1:9")


def test_the_key_is_read_from_the_environment_and_never_shown(
    clients: Clients, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = simulator(fault="status", status=401, error="bad key sk-secret-1234")
    monkeypatch.setenv("MY_KEY", "sk-secret-1234")
    with pytest.raises(EngineLoadError) as caught:
        clients(url=url, api_key_env="MY_KEY")
    assert "sk-secret" not in str(caught.value)
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(EngineLoadError, match="variable MY_KEY is not set; set it"):
        clients(url=url, api_key_env="MY_KEY")


class Forgetful(BaseHTTPRequestHandler):
    """Answers one request per connection and closes it when the next one comes."""

    protocol_version = "HTTP/1.1"
    served = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.served:
            self.close_connection = True
            return
        self.served = True
        asked = {"prompt_tokens": 1, "completion_tokens": 4}
        choice = {"index": 0, "text": "a", "finish_reason": "length"}
        data = f"data: {json.dumps({'choices': [choice], 'usage': asked})}\n\ndata: [DONE]\n\n"
        self.respond(200, "text/event-stream", data.encode())

    def do_GET(self) -> None:
        self.respond(404, "text/plain", b"")

    def respond(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def test_a_kept_connection_that_the_server_closes_costs_no_request(clients: Clients) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = clients(url=f"http://127.0.0.1:{server.server_port}", api="completions")
        assert [ask(client, max_tokens=4).output_tokens for _ in range(3)] == [4, 4, 4]
        client.close()
        server.shutdown()
