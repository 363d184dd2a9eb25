"""A stand-in NVIDIA library, the scenarios it answers from, and fixtures of both.

A conftest.py imports the fixtures that its tests use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def build(folder: Path) -> Path:
    """Compile the library into a folder, for a loader that looks there first; return it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the binding finds its library by this name on Linux only")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    target = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-o", target, HERE / "nvml_stub.c"]
    subprocess.run(command, check=True)
    return folder


def scenario(name: str) -> str:
    """Return the lines of a scenario."""
    text = (HERE / "scenarios" / f"{name}.txt").read_text()
    if name == "eight_devices":
        # The file has the lines of one device, whose number is "#".
        driver, device = text.split("device", 1)
        text = driver + "".join(f"device{device.replace('#', str(n))}" for n in range(8))
    return text


class Card:
    """The scenario that one test's processes see."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library = library
        self.path = folder / "scenario.txt"
        self.set("")

    def set(self, text: str) -> None:
        """Answer from this scenario from now on."""
        self.path.write_text(text)

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables that make a process see the card."""
        return {"LD_LIBRARY_PATH": str(self.library), "LLMPERF_NVML_SCENARIO": str(self.path)}

    def run(self, code: str, **environ: str) -> Any:
        """Run ``code`` in a process that sees the card; return what it passes to ``answer``."""
        inherited = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        done = subprocess.run(
            [sys.executable, "-c", _PRELUDE + code],
            cwd=ROOT,
            env={**inherited, **self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def observe(
        self,
        text: str,
        *,
        during: str = "",
        seconds: float = 0.4,
        tenant: str = "5368709120",
        tokens: int = 100,
        **environ: str,
    ) -> dict[str, Any]:
        """Watch one iteration of ``seconds`` as an engine that holds ``tenant`` bytes on GPU 0.

        The code ``during`` runs in the middle; its ``more(lines)`` adds to the scenario.
        """
        self.set(text)
        arguments = f"{seconds!r}, {tokens!r}, {tenant!r}, {during!r}"
        found: dict[str, Any] = self.run(_OBSERVE + f"observe({arguments})\n", **environ)
        return found


@pytest.fixture(scope="session")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in NVIDIA library."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def card(nvml_folder: Path, tmp_path: Path) -> Card:
    """A stand-in card."""
    return Card(nvml_folder, tmp_path)


_PRELUDE = """
import dataclasses, json, os, sys, threading, time
from pathlib import Path
from pytest_llmperf.machine.gpu.bandwidth import gpu_bandwidths
from pytest_llmperf.machine.gpu.devices import read_gpus
from pytest_llmperf.machine.gpu.watch import GpuWatch
from pytest_llmperf.machine.fingerprint import read_machine
from pytest_llmperf.machine.gpu.telemetry import Telemetry
from pytest_llmperf.timeline import Timeline

def plain(x):
    return dataclasses.asdict(x) if dataclasses.is_dataclass(x) else str(x)

def answer(x):
    json.dump(x, sys.stdout, default=plain)

def more(lines, instead_of=("", "")):
    path = Path(os.environ["LLMPERF_NVML_SCENARIO"])
    other = path.with_suffix(".new")
    other.write_text(path.read_text().replace(*instead_of) + lines + "\\n")
    other.replace(path)
    time.sleep(0.02)  # until the library looks again
"""

_OBSERVE = """
def observe(seconds, tokens, tenant, during):
    telemetry = Telemetry.open()
    if telemetry is None:
        return answer(None)
    if tenant:
        more(f"tenant 0 {os.getpid()} {tenant} python")
    watch = GpuWatch(telemetry, [os.getpid()], hz=100)
    time.sleep(0.05)
    start = time.perf_counter()
    time.sleep(seconds / 2)
    exec(during)
    time.sleep(seconds / 2)
    end = time.perf_counter()
    step = (end - start) / tokens
    timeline = Timeline(start, tuple(start + step * (n + 1) for n in range(tokens)))
    metrics = {**watch.iteration_metrics([timeline]), **watch.overall_metrics()}
    summary = watch.summary()
    findings = watch.findings()
    watch.stop()
    telemetry.close()
    answer({
        "metrics": metrics,
        "undefined": watch.missing_reasons(),
        "findings": findings,
        "notes": telemetry.notes,
        "devices": summary.devices,
        "hz": summary.hz,
        "threads": [t.name for t in threading.enumerate() if t.name == "llmperf-gpus"],
    })
"""
