"""The embedded model as a fixture, and settings of a small engine.

A conftest.py imports the fixture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The embedded model; tests without it would prove nothing, so they fail."""
    try:
        return resolve_model("smollm2-135m", Path())
    except ModelError as error:
        pytest.fail(f"{error}\nthe set-up brings it: make setup", pytrace=False)


def small_settings(model: Path, /, **changes: Any) -> dict[str, Any]:
    """Return llama.cpp's settings for short contexts on one thread, with these changes."""
    small = {"n_ctx": 512, "n_batch": 256, "n_ubatch": 256, "max_tokens": 8}
    threads = {"n_threads": 1, "n_threads_batch": 1}
    return LlamaCppConfig(**{**small, **threads, **changes}).resolved(model)
