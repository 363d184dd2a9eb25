"""The embedded model, small models written for a test, and the engine that loads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf_files import Load, Write, write_gguf

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.client import EngineClient, LaunchSpec


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The embedded model; tests without it would prove nothing, so they fail."""
    try:
        return resolve_model("smollm2-135m", Path())
    except ModelError as error:
        pytest.fail(f"{error}\nthe set-up brings it: make setup", pytrace=False)


@pytest.fixture
def load() -> Iterator[Load]:
    """Start engines; all of them end with the test."""
    started: list[EngineClient] = []

    def start(path: Path, **changes: Any) -> EngineClient:
        small = {"n_ctx": 512, "n_batch": 256, "n_ubatch": 256, "max_tokens": 8}
        threads = {"n_threads": 1, "n_threads_batch": 1}
        config = LlamaCppConfig(**{**small, **threads, **changes}).resolved(path)
        started.append(EngineClient.start(LaunchSpec("llama_cpp", config)))
        return started[-1]

    yield start
    for client in started:
        client.close()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model into the test's folder."""
    return lambda keys, tensors: write_gguf(tmp_path / "tiny.gguf", keys, tensors)
