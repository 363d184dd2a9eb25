"""Real engines: the embedded model in llama.cpp on one thread, and small applications."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from embedded_model import model_file
from small_specs import small_settings, small_spec

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.worker_process import WorkerProcess

#: A fixture from elsewhere.
__all__ = ["model_file"]

#: Writes an application from its source and returns how to start it as an engine.
AppSpec = Callable[..., LaunchSpec]


@pytest.fixture(scope="session")
def llama_config(model_file: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that makes small, one-thread settings for llama.cpp, with changes."""

    return partial(small_settings, model_file)


@pytest.fixture(scope="module")
def engine(llama_config: Callable[..., dict[str, Any]]) -> Iterator[LlmEngine]:
    """One llama.cpp worker for all tests of a module."""
    engine = LlmEngine(LaunchSpec("llama_cpp", llama_config()), max_tokens=8)
    yield engine
    engine.close()


@pytest.fixture
def app_spec(tmp_path: Path) -> AppSpec:
    """Write an application and return how to start it as an engine."""

    def make(source: str, target: str = "application:answer", **options: Any) -> LaunchSpec:
        (tmp_path / "application.py").write_text(textwrap.dedent(source))
        options.setdefault("import_paths", (str(tmp_path),))
        return LaunchSpec("app", {"target": target}, **options)

    return make


@pytest.fixture
def app(app_spec: AppSpec) -> Iterator[Callable[..., LlmEngine]]:
    """Start an application as the engine."""
    engines: list[LlmEngine] = []

    def make(source: str, **options: Any) -> LlmEngine:
        engines.append(LlmEngine(app_spec(source, **options), max_tokens=8))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def clients() -> Iterator[Callable[[LaunchSpec], EngineClient]]:
    """Start workers, which end with the test."""
    started: list[EngineClient] = []

    def start(spec: LaunchSpec) -> EngineClient:
        started.append(EngineClient.start(spec))
        return started[-1]

    yield start
    for client in started:
        client.kill()


@pytest.fixture
def tiny_client(clients: Callable[[LaunchSpec], EngineClient]) -> Callable[..., EngineClient]:
    """Return a function that starts llama.cpp with a tiny model's file and changed settings."""
    return lambda file, **changes: clients(small_spec(file, **changes))


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process ids of all workers that are started, even those that never come up."""
    pids: list[int] = []
    spawn = WorkerProcess._spawn

    def noting(self: WorkerProcess) -> Any:
        process = spawn(self)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(WorkerProcess, "_spawn", noting)
    return pids
