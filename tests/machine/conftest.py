"""The stand-in NVIDIA library, built once, and a way to ask it through the real binding."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not sys.platform.startswith("linux"):
        pytest.skip("the binding finds its library by this name on Linux only")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml_stub.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, source], check=True)
    return folder


@pytest.fixture
def ask_nvml(nvml_folder: Path, tmp_path: Path) -> Ask:
    """Evaluate an expression over our modules in a process whose driver answers ``scenario``."""

    def ask(expression: str, scenario: str, **environ: str) -> Any:
        (tmp_path / "scenario.txt").write_text(scenario)
        code = (
            "import dataclasses, json, os, sys\n"
            "from pytest_llmperf.environment.busy import LoadWatch\n"
            "from pytest_llmperf.environment.fitness import judge\n"
            "from pytest_llmperf.environment.gpu_bandwidth import gpu_bandwidths\n"
            "from pytest_llmperf.environment.gpus import gpu_processes, read_gpus, throttled_gpus\n"
            "from pytest_llmperf.environment.machine import read_machine\n"
            "plain = lambda x: dataclasses.asdict(x) if dataclasses.is_dataclass(x) else str(x)\n"
            f"json.dump({expression}, sys.stdout, default=plain)\n"
        )
        inherited = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={
                **inherited,
                "LD_LIBRARY_PATH": str(nvml_folder),
                "LLMPERF_NVML_SCENARIO": str(tmp_path / "scenario.txt"),
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask
