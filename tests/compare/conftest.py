"""A project with stored sessions, and the command run in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_outputs import Output, run_command
from commit_projects import isolate_git
from compare_sessions import Project, parse

from pytest_llmperf.cli import compare


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository without commits in the current folder; the terminal has 80 columns."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "80")
    isolate_git(monkeypatch)
    return Project(root)


@pytest.fixture
def llmperf_compare(capsys: pytest.CaptureFixture[str]) -> Callable[..., Output]:
    """Run ``llmperf compare`` with the given words."""

    def run(*words: str) -> Output:
        return run_command(capsys, lambda: compare.run(parse(*words)))

    return run
