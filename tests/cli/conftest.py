"""A project folder with baselines, and the command run in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from baseline_folders import Folder

from pytest_llmperf.cli import main


class Said(NamedTuple):
    """What a command printed and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The current folder's baselines, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Folder(Path("perf_baselines"))


@pytest.fixture
def baseline(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run ``llmperf baseline`` with these words."""

    def run(*words: str) -> Said:
        try:
            status = main(["baseline", *words])
        except SystemExit as stop:  # how argparse refuses
            status = int(stop.code or 0)
        return Said(status, *capsys.readouterr())

    return run
