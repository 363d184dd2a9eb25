"""A project folder with baselines, and the command run in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from baseline_folders import Folder
from command_outputs import Output, run_command

from pytest_llmperf.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The current folder's baselines, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Folder(Path("perf_baselines"))


@pytest.fixture
def baseline(capsys: pytest.CaptureFixture[str]) -> Callable[..., Output]:
    """Run ``llmperf baseline`` with these words."""

    def run(*words: str) -> Output:
        return run_command(capsys, lambda: main(["baseline", *words]))

    return run
