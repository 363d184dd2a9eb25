"""The command, run in the test's own folder on a terminal of 100 columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_outputs import Output, run_command
from import_runs import Command

from pytest_llmperf.cli import main


@pytest.fixture
def llmperf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run ``llmperf`` with these words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: object) -> Output:
        return run_command(capsys, lambda: main([str(word) for word in words]))

    return run
