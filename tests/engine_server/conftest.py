"""Servers for the tests: llama.cpp's own on a tiny model, and one that follows a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from running_servers import real_server, running_server, simulated_servers

from pytest_llmperf.config.llm_section import read_llm
from pytest_llmperf.engine.client import EngineClient, LaunchSpec


@pytest.fixture(scope="session")
def llama_command() -> str:
    """Command that starts llama.cpp's own server on a tiny model."""
    return real_server()


@pytest.fixture
def llama_url() -> Iterator[str]:
    """Address of a running llama.cpp server."""
    with running_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def server_spec() -> Callable[..., LaunchSpec]:
    """Return a function that makes a server engine's launch specification."""

    def make(**section: Any) -> LaunchSpec:
        llm = read_llm({"engine": "server", **section})
        return LaunchSpec(
            "server",
            llm.resolved(),
            load_timeout=llm.load_timeout,
            generation_timeout=llm.generation_timeout,
        )

    return make


@pytest.fixture
def clients(server_spec: Callable[..., LaunchSpec]) -> Iterator[Callable[..., EngineClient]]:
    """Start server engines, which end with the test."""
    started: list[EngineClient] = []

    def start(**section: Any) -> EngineClient:
        started.append(EngineClient.start(server_spec(**section)))
        return started[-1]

    yield start
    for client in started:
        client.kill()


@pytest.fixture
def simulator() -> Iterator[Callable[..., str]]:
    """Return a function that starts a server that follows a plan and returns its address."""
    with simulated_servers() as start:
        yield start


@pytest.fixture
def children() -> Callable[[int], list[psutil.Process]]:
    """Return a function that lists a process's descendants."""
    return lambda pid: psutil.Process(pid).children(recursive=True)
