"""The command ``llmperf model`` run in a folder of its own, and an engine that loads models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_outputs import Output, run_command

from pytest_llmperf.cli import main
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.handle import LlmEngine


@pytest.fixture
def model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Output]:
    """Run ``llmperf model`` with these words, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Output:
        return run_command(capsys, lambda: main(["model", *map(str, words)]))

    return run


@pytest.fixture
def load() -> Iterator[Callable[[Path], LlmEngine]]:
    """Start engines; llama.cpp checks every block that it loads, and the engine all logits."""
    started: list[LlmEngine] = []

    def start(path: Path) -> LlmEngine:
        small: dict[str, Any] = {
            "n_ctx": 256,
            "max_tokens": 8,
            "n_batch": 64,
            "n_ubatch": 64,
            "n_threads": 1,
            "n_threads_batch": 1,
        }
        config = LlamaCppConfig(**small, extra={"check_tensors": True}).resolved(path)
        started.append(LlmEngine(LaunchSpec("llama_cpp", config), max_tokens=8))
        return started[-1]

    yield start
    for engine in started:
        engine.close()
