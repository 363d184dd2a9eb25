"""How llama.cpp is started with a model on one thread, with little context and small batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.engine.client import LaunchSpec

_SETTINGS = {
    "n_ctx": 512,
    "n_batch": 256,
    "n_ubatch": 256,
    "max_tokens": 8,
    "n_threads": 1,
    "n_threads_batch": 1,
}


def small_settings(model: Path, /, **changes: Any) -> dict[str, Any]:
    """Return llama.cpp's settings for a model file; ``changes`` replace the small ones."""
    return LlamaCppConfig.model_validate({**_SETTINGS, **changes}).resolved(model)


def small_spec(model: Path, /, **changes: Any) -> LaunchSpec:
    """Return how to start llama.cpp with a model file; ``changes`` replace the small settings."""
    return LaunchSpec("llama_cpp", small_settings(model, **changes))
