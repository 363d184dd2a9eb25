"""A server that the engine starts: asked like any engine, watched and ended with its process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from ended_processes import wait_until_ended
from tiny_models import tiny_llama

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.machine.processes import process_trees

Clients = Callable[..., EngineClient]


@pytest.fixture(scope="module")
def llama(llama_command: str, server_spec: Callable[..., LaunchSpec]) -> Iterator[EngineClient]:
    """One running llama.cpp server, asked through its completions API."""
    client = EngineClient.start(server_spec(start=llama_command, api="completions"))
    yield client
    client.kill()


def ask(client: EngineClient, prompt: Any = "Hello there", **options: Any) -> Any:
    return client.request(build_request(prompt=prompt, **{"max_tokens": 9, **options}))


def test_an_answer_has_the_servers_own_counts_and_an_uncached_prompt(llama: EngineClient) -> None:
    first, second = ask(llama), ask(llama)
    for answer in (first, second):
        timeline = answer.timeline
        assert (answer.output_tokens, answer.finish_reason, timeline.tokens) == (9, "length", 9)
        assert timeline.prompt_tokens == timeline.prompt_tokens_evaluated == 1 + len("Hello there")
        assert 1 < len(timeline.token_times) <= 9
        assert {"first_token", "end_to_end"} <= answer.metrics.keys()
        # A tiny model is so fast that all chunks may arrive at once.
        if seconds := timeline.token_times[-1] - timeline.token_times[0]:
            assert answer.metrics["tokens_per_sec"] == pytest.approx(8 / seconds)
        else:
            assert "tokens_per_sec" not in answer.metrics
    # The prompt itself is sent, so that greedy answers are the same.
    assert first.text == second.text


def test_it_tells_model_and_build_and_is_watched_with_its_process(llama: EngineClient) -> None:
    info = llama.info
    assert info.model_name.startswith(f"{tiny_llama().name}, ")
    assert info.model_name.endswith(" bytes")
    assert info.parameters > 0
    assert info.engine_version != "unknown build"
    assert info.n_ctx == 256
    (server,) = psutil.Process(llama.pid).children()
    assert server.pid in process_trees(llama.processes)


def test_it_is_started_with_the_arguments_of_extra(clients: Clients, llama_command: str) -> None:
    extra = {"ctx": 512, "parallel": 2, "metrics": True, "threads": None, "alias": "two words"}
    client = clients(start=llama_command, api="completions", extra=extra)
    assert (client.info.n_ctx, client.info.model_title) == (256, "two words")
    assert ask(client).output_tokens == 9
    (server,) = psutil.Process(client.pid).children()
    assert server.cmdline()[-7:] == [
        *("--ctx", "512", "--parallel", "2", "--metrics", "--alias", "two words")
    ]
    with pytest.raises(EngineLoadError, match=r"(?s)exit status 2.*unrecognized arguments: --np"):
        clients(start=llama_command, extra={"np": 2})


def test_sampling_stops_and_grammars_reach_the_server(llama: EngineClient) -> None:
    assert ask(llama, grammar='root ::= "abc"', max_tokens=20).text == "abc"
    whole = ask(llama, grammar='root ::= "abcdef"', max_tokens=20, stop="d")
    assert (whole.text, whole.finish_reason) == ("abc", "stop")
    hot = {ask(llama, temperature=2.0, seed=seed).text for seed in range(3)}
    assert len(hot) > 1


def test_a_prompt_may_be_token_ids_and_a_stream_has_the_times_of_its_chunks(
    llama: EngineClient,
) -> None:
    assert ask(llama, [1, 50, 51, 52]).timeline.prompt_tokens == 4
    chunks = []
    stream = llama.stream(build_request(prompt="Hi", max_tokens=9, stream=True))
    while True:
        try:
            chunks.append(next(stream))
        except StopIteration as end:
            generation = end.value
            break
    assert tuple(chunk.time for chunk in chunks) == generation.timeline.token_times
    assert "".join(chunk.text for chunk in chunks) == generation.text


def test_what_the_api_does_not_take_is_an_error_that_says_what_to_set(
    llama: EngineClient, clients: Clients, llama_command: str
) -> None:
    with pytest.raises(EngineError, match=r"takes a prompt, not a chat; set llm\.api: chat"):
        llama.request(build_request(messages=[{"role": "user", "content": "a"}], max_tokens=2))
    with pytest.raises(EngineError, match="exceed"):
        ask(llama, "x" * 400)
    assert ask(llama).output_tokens == 9
    chat = clients(start=llama_command)
    with pytest.raises(EngineError, match=r"takes text, not token ids; set llm\.api: completions"):
        ask(chat, [1, 2])
    answers = [
        chat.request(build_request(messages=[{"role": "user", "content": "Hi"}], max_tokens=4)),
        ask(chat, "Hi", max_tokens=4),
    ]
    assert answers[0].text == answers[1].text


def test_a_kept_prompt_is_served_from_the_cache_where_that_is_asked(llama: EngineClient) -> None:
    ask(llama, "A prompt of some length")
    kept = ask(llama, "A prompt of some length", cache="keep")
    # With a kept prompt, what the cache serves is up to the server.
    assert kept.timeline.prompt_tokens_evaluated is None


def test_a_closed_engine_leaves_no_server(
    clients: Clients, llama_command: str, children: Any
) -> None:
    asked, killed = clients(start=llama_command), clients(start=llama_command)
    servers = [*children(asked.pid), *children(killed.pid)]
    assert len(servers) == 2
    asked.close()
    psutil.Process(killed.pid).kill()
    with pytest.raises(EngineGoneError):
        ask(killed)
    assert all(map(wait_until_ended, servers))


def test_a_server_that_dies_costs_one_request(
    server_spec: Callable[..., LaunchSpec], llama_command: str, children: Any
) -> None:
    engine = LlmEngine(server_spec(start=llama_command), max_tokens=4)
    try:
        engine.generate("Hi")
        (server,) = children(engine.worker_pid)
        server.send_signal(signal.SIGKILL)
        assert wait_until_ended(server)
        with pytest.raises(EngineGoneError, match=r"was ended by SIGKILL\nlast lines(.|\n)*slot"):
            engine.generate("Hi")
        assert engine.generate("Hi").output_tokens == 4
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (
            "{python} -c 'print(\"no such model\"); raise SystemExit(3)' {port}",
            "exit status 3\nlast lines of the engine's log:\n  | no such model",
        ),
        ("no-such-server --port {port}", r"llm.start: 'no-such-server' can't be run \(No such"),
        (
            "{python} -c 'import time; print(\"loading\", flush=True); time.sleep(60)' {port}",
            r"not ready after 8 s \(/health: no connection\); if it needs longer, raise "
            r"llm.load_timeout\nlast lines of the engine's log:\n  \| loading",
        ),
        (
            "{python} -m http.server {port} --bind 127.0.0.1",
            r"does not answer a first request: .* HTTP status 501",
        ),
    ],
)
def test_a_server_that_never_gets_ready_is_an_error_with_its_last_lines(
    clients: Clients, start: str, text: str
) -> None:
    limit = 10 if "sleep" in start else 30
    with pytest.raises(EngineLoadError, match=text.replace(" | ", r" \| ")):
        clients(start=start, load_timeout=limit)
