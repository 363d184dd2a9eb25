"""A large model whose layers stay on the CPU: the doctor names that first, and tries the change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "doctor")
QUICK = (
    *("--set", "llm.n_ctx=256", "--set", "llm.max_tokens=2", "--set", "llm.n_threads=1"),
    *("--set", "llm.n_batch=64", "--set", "llm.n_ubatch=64", "--set", "llm.n_threads_batch=1"),
    # A software device on a busy machine is slow.
    *("--set", "llm.generation_timeout=15m", "--set", "llm.load_timeout=15m"),
    *("--prompt-tokens", "8", "--max-tokens", "2", "--budget", "20m"),
)


def doctor(folder: Path, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    done = subprocess.run(
        [*COMMAND, *QUICK, *arguments, "--json", "found.json"],
        cwd=folder,
        env={
            **os.environ,
            "LLMPERF_DEVICE_LOCK": str(folder / "device.lock"),
            # The tests may be run from a checkout that is installed nowhere else.
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    report: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return done.returncode, done.stdout, report


def test_layers_that_stay_on_the_cpu_are_the_first_cause(tmp_path: Path) -> None:
    status, said, report = doctor(tmp_path, "--set", "llm.n_gpu_layers=4", "--no-try")
    names = [finding["name"] for finding in report["findings"] if finding["theme"] != "machine"]
    assert (status, names[0]) == (1, "layers_not_asked")
    assert "4/31 layers on GPU" in " ".join(said.split())
    assert "change n_gpu_layers: -1 (under llm; now --set llm.n_gpu_layers)" in " ".join(
        said.split()
    )


def test_what_more_layers_bring_is_measured(tmp_path: Path) -> None:
    """A software device may be slower than the CPU; then the report says so."""
    # No other change is worth trying, so that the time goes into the layers.
    alone = ("--set", "llm.n_threads=auto", "--set", "llm.n_threads_batch=auto")
    _, said, report = doctor(
        tmp_path,
        *alone,
        *("--set", "llm.n_gpu_layers=4", "--set", "llm.flash_attn=true", "--budget", "3m"),
    )
    machine = [entry for entry in report["fitness"] if entry["severity"] == "invalid"]
    every = [*report["findings"], *report["without_gain"], *report["not_tried"]]
    (layers,) = (entry for entry in every if entry["name"] == "layers_not_asked")
    if machine:
        assert "no change was tried because the machine is disturbed" in " ".join(said.split())
        return
    gain = layers["gain"]
    if gain["outcome"] == "undecided":
        assert gain["why"]
        return
    assert gain["pairs"] >= 3
    assert set(gain["changes"]) >= {"tokens_per_sec", "first_token", "end_to_end"}
    words = " ".join(said.split())
    if layers in report["without_gain"]:
        assert "tried n_gpu_layers: -1: " in words
    else:
        assert "measured" in words
