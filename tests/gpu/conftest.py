"""Loads on a real GPU or Debian's software Vulkan device; only `make gpu-test` runs these."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gpu_loads import SMALL, Load

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.engine.load_report import GpuStatus
from pytest_llmperf.gpu_builds import VISIBLE_DEVICES


def pytest_sessionstart() -> None:
    """Refuse an engine without GPU code, which would prove nothing here."""
    if installed_backend() == "cpu":
        raise pytest.UsageError("tests/gpu needs an engine with GPU code; run: make gpu-test")


@pytest.fixture(scope="session")
def load() -> Callable[..., Load]:
    """Load the embedded model with these settings and variables, each combination once."""
    model = resolve_model("smollm2-135m", Path())
    done: dict[str, Load] = {}

    def make(env: dict[str, str] | None = None, **settings: Any) -> Load:
        key = repr((env, settings))
        if key not in done:
            config = LlamaCppConfig(**{**SMALL, **settings}).resolved(model)
            client = EngineClient.start(LaunchSpec("llama_cpp", config, env=env or {}))
            done[key] = Load(client.info, client.log)
            client.close()
        return done[key]

    return make


@pytest.fixture(scope="session", autouse=True)
def full(load: Callable[..., Load]) -> Load:
    """A load with every layer on the device; without a device, end the session."""
    loaded = load()
    if loaded.gpu.status is GpuStatus.NO_DEVICE:
        names = VISIBLE_DEVICES.get(installed_backend(), ())
        seen = "".join(f"; {name} is {os.environ.get(name, 'not set')}" for name in names)
        pytest.exit(
            f"tests/gpu: the {installed_backend()} engine sees no device{seen}. Install a driver "
            "(Debian: mesa-vulkan-drivers, which has a software device) and run: make gpu-test",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    return loaded


@pytest.fixture
def hidden() -> dict[str, str]:
    """Variables that hide every device from the engine."""
    names = VISIBLE_DEVICES.get(installed_backend(), ())
    if not names:
        pytest.skip(f"{installed_backend()}: no variable hides its devices")
    return dict.fromkeys(names, "")
