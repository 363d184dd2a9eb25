"""Real loads of the embedded model with settings that make it slow, and the machine around them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from doctor_runs import SMALL, Run
from embedded_model import model_file
from stand_in_card import card, nvml_folder

from pytest_llmperf.config.embedded import EMBEDDED, models_dir
from pytest_llmperf.config.embedded import cache_dir as real_cache
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.diagnosis.situation import Hardware, Situation, WorkloadSize, look_at_hardware
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.info import EngineInfo

#: Fixtures from elsewhere.
__all__ = ["card", "model_file", "nvml_folder"]

Load = Callable[..., Situation]


@pytest.fixture(scope="session")
def hardware() -> Hardware:
    return look_at_hardware()


@pytest.fixture(scope="session")
def load(model_file: Path, hardware: Hardware) -> Load:
    """Really load the model with the given settings; the same settings only once."""
    done: dict[str, tuple[EngineInfo | None, str]] = {}

    def make(
        use: WorkloadSize | None = None,
        env: Mapping[str, str] | None = None,
        python: str | None = None,
        **settings: Any,
    ) -> Situation:
        config = LlamaCppConfig(**{**SMALL, **settings}).resolved(model_file)
        key = repr((env, python, settings))
        if key not in done:
            spec = LaunchSpec("llama_cpp", config, env=dict(env or {}))
            if python is not None:
                spec = LaunchSpec("llama_cpp", config, python=python)
            try:
                client = EngineClient.start(spec)
            except EngineError as error:
                done[key] = None, str(error)
            else:
                done[key] = client.info, ""
                client.close()
        info, error = done[key]
        size = model_file.stat().st_size
        return Situation(
            config, hardware, info, use or WorkloadSize(0, 0, 0), load_error=error, model_bytes=size
        )

    return make


@pytest.fixture
def app_folder(tmp_path: Path) -> Path:
    """A folder with an application that takes 2 ms per token, and its configuration."""
    (tmp_path / "toy.py").write_text(
        "import time\n\n"
        "def answer(prompt, max_tokens=4):\n"
        "    for number in range(max_tokens):\n"
        "        time.sleep(0.002)\n"
        "        yield f'word{number} '\n"
    )
    (tmp_path / "config.yaml").write_text(
        "llm:\n  engine: app\n  target: toy:answer\n  n_threads: 1\n  n_threads_batch: 1\n"
    )
    return tmp_path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs of the command in a folder, with a device lock of their own."""
    if not (models_dir(real_cache()) / EMBEDDED["smollm2-135m"].file_name).exists():
        pytest.fail("the embedded model is not in the cache: make setup", pytrace=False)
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(tmp_path / "device.lock"))
    monkeypatch.setenv("COLUMNS", "80")
    for name in [name for name in os.environ if name.startswith(("LLMPERF_LLM", "CUDA_VIS"))]:
        monkeypatch.delenv(name)
    return Run(tmp_path)


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let diagnoses inside this process find no other load on the machine."""
    monkeypatch.setattr("pytest_llmperf.session.machine_watch.machine_findings", lambda *_: [])


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """Compile a C file to a shared library ``name`` in a new folder."""

    def make(source: Path, name: str) -> Path:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("needs a C compiler")
        target = tmp_path_factory.mktemp("library") / name
        subprocess.run([compiler, "-shared", "-fPIC", "-o", target, source], check=True)
        return target

    return make
