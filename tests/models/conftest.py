"""The command ``llmperf model`` run in a folder of its own, and an engine that loads models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_outputs import Output, run_command
from small_specs import small_spec

from pytest_llmperf.cli import main
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
        spec = small_spec(path, n_ctx=256, n_batch=64, n_ubatch=64, extra={"check_tensors": True})
        started.append(LlmEngine(spec, max_tokens=8))
        return started[-1]

    yield start
    for engine in started:
        engine.close()
