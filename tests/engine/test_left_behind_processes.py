"""Processes that an application leaves behind end with its engine, wherever they went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from ended_processes import wait_until_ended

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineGoneError
from pytest_llmperf.engine.request import build_request

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

#: Starts one process for every way to leave the group, and yields their ids.
LEAVER = """
    import os, subprocess, sys, time

    DAEMON = "import os, time\\nif os.fork(): os._exit(0)\\nos.setsid()\\n" \\
             "if os.fork(): os._exit(0)\\nprint(os.getpid(), flush=True)\\ntime.sleep(600)"

    def started(**options):
        return subprocess.Popen(["sleep", "600"], start_new_session=True, **options).pid

    def daemon(**options):
        child = subprocess.Popen([sys.executable, "-c", DAEMON], stdout=subprocess.PIPE, **options)
        pid = int(child.stdout.readline())
        child.wait()
        return pid

    def answer(prompt):
        yield str(started())
        yield str(daemon())
        if prompt == "and without their variables":
            yield str(started(env={}))
            yield str(daemon(env={}))
        if prompt == "and wait":
            time.sleep(600)
"""


@pytest.fixture
def left() -> Iterator[list[int]]:
    """The ids of processes that a test's application left behind; ended whatever happens."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def leave(client: EngineClient, prompt: str, left: list[int]) -> None:
    stream = client.stream(build_request(prompt=prompt, max_tokens=None, stream=True))
    left += [int(token.text) for token in stream]
    assert all(map(lives, left))


@pytest.mark.parametrize("how", ["close", "kill"])
def test_what_an_application_left_behind_ends_with_its_engine(
    app_spec: Callable[..., LaunchSpec],
    clients: Callable[[LaunchSpec], EngineClient],
    left: list[int],
    how: str,
) -> None:
    client = clients(app_spec(LEAVER))
    leave(client, "and without their variables", left)

    getattr(client, how)()

    assert len(left) == 4
    assert all(map(wait_until_ended, left))


def test_it_ends_too_where_the_engine_was_killed(
    app_spec: Callable[..., LaunchSpec],
    clients: Callable[[LaunchSpec], EngineClient],
    left: list[int],
) -> None:
    client, neighbour = clients(app_spec(LEAVER)), clients(app_spec(LEAVER))
    leave(client, "hi", left)
    others: list[int] = []
    leave(neighbour, "hi", others)
    os.kill(client.pid, signal.SIGKILL)

    with pytest.raises(EngineGoneError, match="SIGKILL"):
        client.modules([])

    assert all(map(wait_until_ended, left))
    assert all(map(lives, others))
    neighbour.kill()
    assert all(map(wait_until_ended, others))


def test_it_ends_too_where_the_session_was_killed(tmp_path: Path, left: list[int]) -> None:
    (tmp_path / "application.py").write_text(textwrap.dedent(LEAVER))
    code = """
        import sys
        from pytest_llmperf.engine.client import EngineClient, LaunchSpec
        from pytest_llmperf.engine.request import build_request
        spec = LaunchSpec("app", {"target": "application:answer"}, import_paths=(sys.argv[1],))
        client = EngineClient.start(spec)
        request = build_request(prompt="and wait", max_tokens=None, stream=True)
        for token in client.stream(request):
            print(token.text, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as session:
        try:
            assert session.stdout is not None
            left += [int(session.stdout.readline()) for _ in range(2)]
        finally:
            session.kill()

    assert all(map(wait_until_ended, left))
