"""A small application in a repository, and ``llmperf bisect`` run there as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quick_sessions import OUR_PLUGIN_ALONE
from scripted_histories import git

APP = """
import time

def answer(prompt, max_tokens=4):
    for number in range(max_tokens or 4):
        time.sleep({seconds})
        yield f"word{{number}} "
"""
TEST = """
import pytest

@pytest.mark.end_to_end(tolerance="20%")
def test_a(llm_engine):
    llm_engine.generate("hello", max_tokens=4)
"""
CONFIG = """
llm:
  engine: app
  target: toy:answer
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
  iterations: 3
"""
FILES = {
    "toy.py": APP.format(seconds=0.003),
    "tests/perf/test_it.py": TEST,
    "config.yaml": CONFIG,
    # Other load on the machine voids no sample here.
    "conftest.py": (
        "from pytest_llmperf.session import machine_watch\nmachine_watch.judge = lambda *_: []\n"
    ),
    "pytest.ini": "[pytest]\naddopts = -p no:cacheprovider -p no:hypothesispytest\n",
    ".gitignore": "__pycache__/\n",
}
#: So much slower that no other load can hide it.
SLOW = APP.format(seconds=0.012)
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Command:
    """A project's folder, and the command that runs in it.

    Attributes:
        root: the project's folder.
        home: a folder beside it, for the cache and the files that are written.
        plugins: environment variables that say which plugins its sessions load.
    """

    root: Path
    home: Path
    plugins: Mapping[str, str] = field(default_factory=lambda: OUR_PLUGIN_ALONE)

    def commit(self, message: str, **files: str) -> str:
        """Write files (``name="content"``, ``__`` for a dot, ``___`` a slash) and commit."""
        for name, content in files.items():
            self.write(name.replace("___", "/").replace("__", "."), content)
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", "-m", message)
        return git(self.root, "rev-parse", "HEAD")

    def write(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def start(self, *words: str, cwd: str = ".") -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
        own = {
            "PYTHONPATH": str(ROOT),
            "LLMPERF_CACHE_DIR": str(self.home / "cache"),
            "LLMPERF_DEVICE_LOCK": str(self.home / "device.lock"),
            "COLUMNS": "80",
            **self.plugins,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "pytest_llmperf.cli", "bisect", *words],
            cwd=self.root / cwd,
            env={**environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, cwd: str = ".") -> BisectOutput:
        """Run the command, and read the file of its ``--json``."""
        process = self.start("--json", str(self.home / "out.json"), *words, cwd=cwd)
        out, err = process.communicate(timeout=300)
        report = self.home / "out.json"
        data = json.loads(report.read_text()) if report.exists() else {}
        return BisectOutput(process.returncode, out, err, data)

    def leftover_checkouts(self) -> list[Path]:
        """Return the checkouts that were left behind."""
        return list((self.home / "cache" / "worktrees").glob("*/*"))


@dataclass
class BisectOutput:
    """What a command printed, its exit status and what it wrote."""

    status: int
    out: str
    err: str
    data: dict[str, Any]

    @property
    def words(self) -> str:
        """All output, with every run of white space as one space."""
        return " ".join(f"{self.out} {self.err}".split())
