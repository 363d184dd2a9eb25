"""The embedded model, small models written for a test, and the engine that loads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_model import model_file
from gguf_files import Load, Write, write_gguf
from small_specs import small_settings

from pytest_llmperf.engine.client import EngineClient, LaunchSpec

#: A fixture from elsewhere.
__all__ = ["model_file"]


@pytest.fixture
def load() -> Iterator[Load]:
    """Start engines; all of them end with the test."""
    started: list[EngineClient] = []

    def start(path: Path, **changes: Any) -> EngineClient:
        spec = LaunchSpec("llama_cpp", small_settings(path, **changes))
        started.append(EngineClient.start(spec))
        return started[-1]

    yield start
    for client in started:
        client.close()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model into the test's folder."""
    return lambda keys, tensors: write_gguf(tmp_path / "tiny.gguf", keys, tensors)
