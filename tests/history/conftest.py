"""A repository to fill, and the command run in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from history_projects import ENVIRONMENT, Project

from pytest_llmperf.cli import history


class Said(NamedTuple):
    """What the command printed and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def quiet_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of this machine's user, and use a cache for the test alone."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty repository in the current folder."""
    repository = Project(tmp_path / "project")
    monkeypatch.chdir(repository.top)
    return repository


@pytest.fixture
def show(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run ``llmperf history`` with these words."""

    def run(*words: str) -> Said:
        parser = argparse.ArgumentParser()
        history.add_parser(parser.add_subparsers())
        try:
            status = history.run(parser.parse_args(["history", *words]))
        except SystemExit as stop:  # argparse refused the arguments
            status = int(stop.code or 0)
        return Said(status, *capfd.readouterr())

    return run
