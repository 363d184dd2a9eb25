"""The report of one real session, and the command that shows reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_outputs import Output, run_command
from tiny_models import tiny_llama

from pytest_llmperf.cli import main

CONFIG = """
llm:
  model_path: {model}
  n_ctx: 512
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
  iterations: 3
  warmup_max: 2
"""
#: Every outcome that a session without a baseline can have, and a name that looks like markup.
TESTS = """
import pytest


@pytest.mark.tokens_per_sec(min=1)
def test_met(llm_engine):
    llm_engine.generate("hello", max_tokens=8)


@pytest.mark.parametrize("prompt", ["<!-- a|b @team :smile: `x` -->"])
@pytest.mark.first_token(max="1ns")
def test_missed(llm_engine, prompt):
    llm_engine.generate(prompt, max_tokens=8)


@pytest.mark.perf
def test_without_a_baseline(llm_engine):
    llm_engine.generate("hello", max_tokens=8)


@pytest.mark.perf
def test_wrong_answer(llm_engine):
    assert llm_engine.generate("hello", max_tokens=8).text == "the right answer"


@pytest.mark.perf
@pytest.mark.skip(reason="not today")
def test_skipped(llm_engine):
    pass
"""


@pytest.fixture(scope="session")
def real_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose session wrote ``session.json`` and a record below perf_baselines."""
    folder = tmp_path_factory.mktemp("session")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_real.py").write_text(TESTS)
    (folder / "config.yaml").write_text(CONFIG.format(model=tiny_llama()))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:hypothesispytest -p no:cov\n")
    apart = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"}
    environ = {name: value for name, value in os.environ.items() if name not in apart}
    environ["LLMPERF_DEVICE_LOCK"] = str(folder / "device.lock")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "perf", "-p", "no:cacheprovider"]
    files = ["--llmperf-json", "session.json", "--llmperf-record", "--junitxml", "pytest.xml"]
    done = subprocess.run(
        [*command, *files],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (folder / "session.json").exists(), done.stdout + done.stderr
    return folder


@pytest.fixture
def real(real_folder: Path) -> dict[str, Any]:
    """Return a copy of the real report's data, which a test may change."""
    data: dict[str, Any] = json.loads((real_folder / "session.json").read_text())
    return data


@pytest.fixture
def report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Output]:
    """Return a function that runs ``llmperf report`` on data or on a file."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)

    def run(given: dict[str, Any] | Path, *words: str) -> Output:
        path = given
        if isinstance(given, dict):
            path = tmp_path / "session.json"
            path.write_text(json.dumps(given))
        return run_command(capfd, lambda: main(["report", str(path), *words]))

    return run
