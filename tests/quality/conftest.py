"""Tiny models, coarser copies of them, and a folder for stored scores."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_llama

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.quality.measure import quality_of
from pytest_llmperf.quality.passages import Prompt, Text

#: The default material to score: four chunks of 64 tokens of one byte each, and a prompt.
WORDS = Text("".join(f"{number} green bottles, {number % 7} blue. " for number in range(12))[:256])
PROMPT = Prompt((1, *b"  tell me about bottles"), 8)


@pytest.fixture(scope="session")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny model with matrices of four bits, quantized by llama.cpp itself."""
    import llama_cpp

    file = tmp_path_factory.mktemp("coarse") / "coarse.gguf"
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    settings.allow_requantize = True
    source = str(tiny_llama(seed=1)).encode()
    status = llama_cpp.llama_model_quantize(source, str(file).encode(), ctypes.byref(settings))
    assert status == 0
    return file


@pytest.fixture
def spec() -> Callable[..., LaunchSpec]:
    """Return a function that makes the launch spec of the tiny model, or of another file."""

    def make(model: Path | None = None, **settings: Any) -> LaunchSpec:
        small = {"n_ctx": 64, "n_batch": 64, "n_ubatch": 64, "max_tokens": 8}
        threads = {"n_threads": 1, "n_threads_batch": 1}
        config = LlamaCppConfig(**{**small, **threads, **settings})
        return LaunchSpec("llama_cpp", config.resolved(model or tiny_llama(seed=1)))

    return make


class Starts:
    """A function that starts engines and keeps their specs."""

    def __init__(self) -> None:
        self.specs: list[LaunchSpec] = []

    def __call__(self, spec: LaunchSpec) -> EngineClient:
        self.specs.append(spec)
        return EngineClient.start(spec)


@pytest.fixture
def starts() -> Starts:
    """Return a start function that counts the engines of a test."""
    return Starts()


@pytest.fixture
def quality(tmp_path: Path, starts: Starts) -> Callable[..., Any]:
    """Return a function that measures quality and stores it in this test's own folder."""

    def measure(spec: LaunchSpec, reference: LaunchSpec, *material: Any, **options: Any) -> Any:
        passages = material or (WORDS, PROMPT)
        return quality_of(
            spec, reference, passages, folder=tmp_path / "quality", start=starts, **options
        )

    return measure
