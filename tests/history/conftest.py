"""A repository to fill, and the command run in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
from command_outputs import Output, run_command
from commit_projects import isolate_git
from history_projects import Project

from pytest_llmperf.cli import history


@pytest.fixture(autouse=True)
def quiet_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of this machine's user, and use a cache for the test alone."""
    isolate_git(monkeypatch)
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty repository in the current folder."""
    repository = Project(tmp_path / "project")
    monkeypatch.chdir(repository.top)
    return repository


@pytest.fixture
def show(capfd: pytest.CaptureFixture[str]) -> Callable[..., Output]:
    """Run ``llmperf history`` with these words."""

    def run(*words: str) -> Output:
        parser = argparse.ArgumentParser()
        history.add_parser(parser.add_subparsers())
        return run_command(capfd, lambda: history.run(parser.parse_args(["history", *words])))

    return run
