"""The embedded model as a fixture, which a conftest.py imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.model_path import resolve_model


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The embedded model; tests without it would prove nothing, so they fail."""
    try:
        return resolve_model("smollm2-135m", Path())
    except ModelError as error:
        pytest.fail(f"{error}\nthe set-up brings it: make setup", pytrace=False)
