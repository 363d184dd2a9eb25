"""A configuration with every mistake a CPU allows: diagnosed, fixed, and the gain proven.

This part can be proven even on a busy machine; benchmarks/tune_story.py has the whole story.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.fitness_checks import CHECKS

LLMPERF = (sys.executable, "-m", "pytest_llmperf.cli")
#: Other load on the machine is only noted and voids nothing: the bad settings cost far more.
NOTED = {name: "note" for name, check in CHECKS.items() if check.origin == "machine"}
#: 100 tokens.
PROMPT = "A question about the caches of a model. " * 5
SEARCH = ("tune", "--prompt", PROMPT, "--phase", "1")
#: What tune may choose for each bad setting.
SPACE = {"n_batch": 256, "n_ctx": 512, "use_mmap": True}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run llmperf as a user does."""
    environ = {
        **os.environ,
        "LLMPERF_CACHE_DIR": str(folder / "cache"),
        "LLMPERF_DEVICE_LOCK": str(folder / "device.lock"),
    }
    return subprocess.run(
        [*LLMPERF, *words], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def badly_configured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an F16 model, its quantization, and a config.yaml of bad settings."""
    folder = tmp_path_factory.mktemp("story")
    args = ["--like", "smollm2-135m", "--layers", "3", "--quant", "F16", "--out", "model-F16.gguf"]
    assert run(folder, "model", "synth", *args).returncode == 0
    assert run(folder, "model", "quantize", "model-F16.gguf", "--to", "Q4_K_M").returncode == 0
    threads = 4 * usable_cpus()
    llm = {
        "model_path": "model-F16.gguf",
        "n_threads": threads,
        "n_threads_batch": threads,
        "n_batch": 1,
        "n_ctx": 32768,
        "use_mmap": False,
        "max_tokens": 4,
    }
    space = {key: [good] for key, good in SPACE.items()}
    perf = {"fitness": NOTED, "turns": "processes", "iterations": 3, "warmup_max": 2}
    content = {"llm": llm, "perf": perf, "tune": {"space": space, "budget": "3m"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_the_doctor_names_everything_that_is_wrong(badly_configured: Path) -> None:
    sizes = ("--prompt-tokens", "100", "--max-tokens", "4", "--budget", "5s")
    done = run(badly_configured, "doctor", *sizes, "--no-try", "--json", "doctor.json")
    assert done.returncode == 1, done.stderr
    report = json.loads((badly_configured / "doctor.json").read_text())
    # Findings that cost time come first, those that cost only memory last.
    names = ["threads_above_cores", "context_large", "not_mapped"]
    assert [finding["name"] for finding in report["findings"]] == names
    _, context, copied = report["findings"]
    assert context["saves"].endswith("MiB of memory")
    assert copied["saves"].endswith("MiB of memory, and the time to copy it at each start")
    # Only measuring can tell whether these help.
    open_ = {cause["name"]: cause for cause in report["not_tried"]}
    assert open_.keys() == {"weights_not_quantized", "batch_small"}
    weights = open_["weights_not_quantized"]
    assert weights["evidence"].startswith("the weights have 16 bits: decoding reads 74.3 MiB")
    assert weights["settings"] == {"model_path": str(badly_configured / "model-Q4_K_M.gguf")}


def test_tune_mends_it_until_the_targets_are_met(badly_configured: Path) -> None:
    # Threads that wait for each other also depend on other load; a single thread does not.
    one_thread = ("--set", "llm.n_threads=1", "--set", "llm.n_threads_batch=1")
    done = run(badly_configured, *SEARCH, *one_thread, "--budget", "1s", "--json", "before.json")
    assert done.returncode == 0, done.stderr
    levels = json.loads((badly_configured / "before.json").read_text())["before"]["levels"]
    now = {level["metric"]: level["value"] for level in levels}
    # Decoding is about as fast as before: one thread, the same weights.
    limits = {name: now[name] / 3 for name in ("first_token", "end_to_end")}
    targets = ("--set", f"perf.targets={json.dumps(limits)}")
    done = run(
        badly_configured, *SEARCH, *one_thread, *targets, "--summary", "--json", "after.json"
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((badly_configured / "after.json").read_text())
    assert result["improved"], result["conclusion"]
    # The first point fixes everything that doctor names. Settings that only save memory may be
    # taken back, as they make nothing faster.
    assert result["points"][0]["settings"] == SPACE
    assert result["points"][0]["took_over"]
    assert result["winner"]["changed"]["n_batch"] == SPACE["n_batch"]
    assert {t["metric"]: (t["before"], t["after"]) for t in result["targets"]} == {
        "first_token": ("missed", "met"),
        "end_to_end": ("missed", "met"),
    }
    summary = (badly_configured / "BENCHMARK_RESULTS_SUMMARY.md").read_text()
    assert "**Improved: " in summary
    assert summary.count("missed → met") == 2
