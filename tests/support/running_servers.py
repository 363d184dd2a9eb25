"""Servers for sessions: llama.cpp's own, started by a session, and simulated, already running."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_models import tiny_llama

from pytest_llmperf.engine.server.about import status_of
from pytest_llmperf.engine.server.process import ServerProcess

SUPPORT = Path(__file__).parent
#: Programs that run llama.cpp's server: the package xllamacpp, and llama-server if installed.
REAL_SERVERS = (
    "xllamacpp",
    pytest.param(
        "llama-server",
        marks=pytest.mark.skipif(
            shutil.which("llama-server") is None, reason="needs llama-server on the PATH"
        ),
    ),
)


def real_server(*arguments: str, program: str = "xllamacpp") -> str:
    """Return a command for ``llm.start``: llama.cpp's server with a tiny model.

    ``program``: one of ``REAL_SERVERS``. Both take ``--ctx-size``, ``--parallel``, ``--threads``,
    ``--alias`` and ``--metrics``.
    """
    words = ["{python}", str(SUPPORT / "llama_server.py")]
    if program == "llama-server":
        words = [program, "--batch-size", "128", "--threads", "1", "--no-warmup"]
    words += ["--model", str(tiny_llama()), *arguments]
    quoted = " ".join(f"'{word}'" for word in words)
    return f"{quoted} --port {{port}}"


@contextmanager
def running_server(*arguments: str) -> Iterator[ServerProcess]:
    """Run llama.cpp's server with a tiny model and these arguments; it answers from now on."""
    server = ServerProcess(real_server(*arguments))
    try:
        while asyncio.run(status_of(f"{server.url}/health")) != 200:
            assert not server.describe_end_if_ended()
            time.sleep(0.02)
        yield server
    finally:
        server.stop()


def serve_script(gap: float) -> str:
    """Return the source of a ``serve.py PORT``: a simulated server with this time per token."""
    return f"""
import asyncio, sys
sys.path.insert(0, {str(SUPPORT)!r})
from server_simulator import Plan, ServerSimulator

async def main():
    async with ServerSimulator(Plan(first=0.005, gap={gap}), port=int(sys.argv[1])):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@contextmanager
def simulated_servers(**usual: object) -> Iterator[Callable[..., str]]:
    """Yield a function that starts a simulated server (arguments, plan) and returns its URL.

    ``usual``: defaults for every plan.
    """
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **plan: object) -> str:
        command = [sys.executable, str(SUPPORT / "server_simulator.py"), *arguments]
        command += ["--plan", json.dumps({**usual, **plan})]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        output = started[-1].stdout
        assert output is not None
        return output.readline().strip()

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()
