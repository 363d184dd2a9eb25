from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from ended_processes import wait_until_ended

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError, EngineGoneError, EngineLoadError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.process_end import describe_end
from pytest_llmperf.engine.request import build_request

App = Callable[..., LlmEngine]


def load(llama_config: Callable[..., dict[str, Any]], file: Path) -> None:
    EngineClient.start(LaunchSpec("llama_cpp", {**llama_config(), "model_path": str(file)}))


def test_a_truncated_model_is_a_load_error(
    llama_config: Callable[..., dict[str, Any]],
    model_file: Path,
    tmp_path: Path,
    spawned: list[int],
) -> None:
    file = tmp_path / "cut.gguf"
    with model_file.open("rb") as whole:
        file.write_bytes(whole.read(8_000_000))

    with pytest.raises(EngineLoadError) as caught:
        load(llama_config, file)

    text = str(caught.value)
    assert text.startswith(f"llama.cpp could not load {file}: ")
    assert "  | " in text
    assert "not within the file bounds" in text
    assert "hint: the file is truncated or damaged" in text
    assert wait_until_ended(spawned[0])


def test_a_corrupt_model_is_a_load_error(
    llama_config: Callable[..., dict[str, Any]],
    model_file: Path,
    tmp_path: Path,
    spawned: list[int],
) -> None:
    file = tmp_path / "corrupt.gguf"
    with model_file.open("rb") as whole:
        head = whole.read(400_000)
    file.write_bytes(head[:64] + b"\xff" * 300 + head[364:])

    with pytest.raises(EngineLoadError, match=r"could not load .*\n.*\n  \| "):
        load(llama_config, file)

    assert wait_until_ended(spawned[0])


def test_a_file_that_is_no_model_is_a_load_error(
    llama_config: Callable[..., dict[str, Any]], tmp_path: Path, spawned: list[int]
) -> None:
    file = tmp_path / "page.gguf"
    file.write_text("<html>404</html>")

    with pytest.raises(EngineLoadError, match="hint: the file is not a GGUF model"):
        load(llama_config, file)

    assert wait_until_ended(spawned[0])


def test_a_missing_model_is_a_load_error(
    llama_config: Callable[..., dict[str, Any]], tmp_path: Path, spawned: list[int]
) -> None:
    with pytest.raises(EngineLoadError, match=r"hint: the file can't be read: .*nowhere.gguf"):
        load(llama_config, tmp_path / "nowhere.gguf")

    assert wait_until_ended(spawned[0])


def test_a_worker_killed_mid_generation_is_named_and_the_next_request_gets_a_new_one(
    engine: LlmEngine,
) -> None:
    stream = engine.stream("Once upon a time", max_tokens=500)
    next(stream)
    killed = engine.worker_pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    with pytest.raises(EngineGoneError) as caught:
        list(stream)

    text = str(caught.value)
    assert text.startswith("the engine's process was ended by SIGKILL while generating\n")
    assert "llama_kv_cache" in text
    assert "hint: usually sent by the kernel's out-of-memory killer" in text
    assert engine.generate("Once upon a time", max_tokens=2).output_tokens == 2
    assert engine.worker_pid != killed


def test_a_segmentation_fault_is_named_with_the_line_it_happened_on(app: App) -> None:
    engine = app("""
        import ctypes
        def answer(prompt):
            if prompt == "crash":
                print("about to crash")
                ctypes.string_at(0)
            return prompt
    """)

    with pytest.raises(EngineGoneError) as caught:
        engine.generate("crash")

    text = str(caught.value)
    assert text.startswith("the engine's process was ended by SIGSEGV while generating\n")
    assert "  | about to crash" in text
    assert 'application.py", line 6 in answer' in text
    assert "hint: a crash inside the engine's native code" in text
    assert engine.generate("again").text == "again"


def test_a_crash_while_loading_is_named(
    app_spec: Callable[..., LaunchSpec], spawned: list[int]
) -> None:
    with pytest.raises(EngineGoneError, match="ended by SIGABRT while loading the model"):
        EngineClient.start(app_spec("import os\nos.abort()"))

    assert wait_until_ended(spawned[0])


def test_a_hang_is_killed_and_the_report_says_where_it_hung(app: App) -> None:
    engine = app(
        """
        import time
        def answer(prompt):
            time.sleep(600)
        """,
        generation_timeout=2.0,
    )
    engine.start()
    pid = engine.worker_pid
    assert pid is not None

    with pytest.raises(EngineGoneError) as caught:
        engine.generate("hi")

    text = str(caught.value)
    assert text.startswith(
        "the engine's process gave no answer in 2 s while generating and was killed\n"
    )
    assert 'application.py", line 4 in answer' in text
    assert text.endswith("hint: if this is not a hang, raise llm.generation_timeout")
    assert wait_until_ended(pid)


def test_a_hang_deep_in_an_event_loop_is_located(app: App) -> None:
    engine = app(
        """
        import asyncio, time
        async def deep(n):
            if n:
                return await deep(n - 1)
            time.sleep(600)
        async def answer(prompt):
            await deep(5)
        """,
        generation_timeout=2.0,
    )

    with pytest.raises(EngineGoneError, match=r'application.py", line 6 in deep'):
        engine.generate("hi")


def test_a_hang_while_loading_names_its_own_setting(app_spec: Callable[..., LaunchSpec]) -> None:
    spec = app_spec("import time\ntime.sleep(600)", load_timeout=0.5)

    with pytest.raises(EngineGoneError, match=r"(?s)while loading the model.*llm.load_timeout"):
        EngineClient.start(spec)


def test_a_slow_stream_is_no_answer_forever(app: App) -> None:
    engine = app(
        """
        import itertools, time
        def answer(prompt):
            for n in itertools.count():
                yield str(n)
                time.sleep(0.05)
        """,
        generation_timeout=0.5,
    )

    with pytest.raises(EngineGoneError, match=r"no answer in 0.5 s while generating"):
        list(engine.stream("hi", max_tokens=10**6))


@pytest.mark.parametrize("how", ["close", "kill"])
def test_what_an_application_started_ends_with_the_worker(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient], how: str
) -> None:
    client = clients(
        app_spec("""
            import subprocess
            def answer(prompt):
                return str(subprocess.Popen(["sleep", "600"]).pid)
        """)
    )
    child = int(client.request(build_request(prompt="go", max_tokens=None)).text)
    assert psutil.pid_exists(child)

    getattr(client, how)()

    assert wait_until_ended(child)


def test_a_process_that_nobody_finds_does_not_hold_the_session_up(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    client = clients(
        app_spec("""
            import subprocess
            def answer(prompt):
                left = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
                return str(left.pid)
        """)
    )
    child = int(client.request(build_request(prompt="go", max_tokens=None)).text)
    try:
        # The worker is killed by somebody else, and has ended: nothing leads to its child now.
        os.kill(client.pid, signal.SIGKILL)
        while client.alive:
            time.sleep(0.01)
        closing = threading.Thread(target=client.close, daemon=True)
        closing.start()
        closing.join(30)
        assert not closing.is_alive()
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_interrupted_request_leaves_no_worker_at_work(app: App, tmp_path: Path) -> None:
    engine = app("""
        import pathlib, time
        def answer(prompt):
            if prompt == "slow":
                pathlib.Path(__file__).with_name("started").touch()
                time.sleep(600)
            yield "done"
    """)
    engine.start()
    pid = engine.worker_pid
    assert pid is not None

    def interrupt() -> None:
        # SIGINT reaches the main thread, where pytest waits for the answer.
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        engine.generate("slow")

    assert wait_until_ended(pid)
    assert engine.generate("quick").text == "done"


def test_a_request_to_a_closed_worker_says_so(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    client = clients(app_spec("def answer(prompt): return prompt"))
    client.close()

    with pytest.raises(EngineGoneError, match="the engine was closed while generating"):
        client.request(build_request(prompt="hi", max_tokens=None))


def test_two_requests_to_one_worker_at_once_are_refused(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    client = clients(app_spec("def answer(prompt): yield from 'abc'"))
    stream = client.stream(build_request(prompt="hi", max_tokens=None, stream=True))
    next(stream)

    with pytest.raises(EngineError, match="another request is running"):
        client.request(build_request(prompt="hi", max_tokens=None))

    assert [token.text for token in stream] == ["b", "c"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "closed its pipe"),
        (0, "ended with exit status 0"),
        (-signal.SIGILL, "was ended by SIGILL"),
        (-signal.SIGBUS, "was ended by SIGBUS"),
        (-250, "was ended by signal 250"),
    ],
)
def test_every_end_has_words(status: int | None, words: str) -> None:
    assert describe_end(status)[0] == words
