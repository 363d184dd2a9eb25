"""A project with one perf test of a small application, and the calibrations stored there."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOY = """
import time

def answer(prompt, max_tokens=4):
    for number in range(max_tokens):
        time.sleep(0.002)
        yield f"word{number} "
"""
CONFIG = """
llm: {engine: app, target: "toy:answer", n_threads: 1, n_threads_batch: 1}
perf: {tolerance: 50%, max_pairs: 12}
"""
#: For tests in which the verdicts do not matter.
FEW_PAIRS = CONFIG.replace("max_pairs: 12", "processes: 2, max_pairs: 2, warmup_max: 2")
TEST = """
import pytest

@pytest.mark.perf
def test_short(llm_engine):
    llm_engine.generate("Hi", max_tokens=16)
"""

#: Other load on this machine voids no pair here; its checks have tests of their own.
CONFTEST = """
import pytest_llmperf.session.machine_watch as machine_watch

machine_watch.judge = machine_watch.judge_host = lambda *_: []
"""
FILES = {
    "toy.py": TOY,
    "test_toy.py": TEST,
    "conftest.py": CONFTEST,
    "config.yaml": CONFIG,
    "pytest.ini": "[pytest]\n",
}


@dataclass(frozen=True)
class Calibrated:
    """A folder in which ``llmperf calibrate`` has run.

    Attributes:
        folder: the project's folder.
        done: the finished command.
    """

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def stored(self) -> list[dict[str, Any]]:
        """The calibrations stored beside the baselines, oldest first."""
        return stored(self.folder)


def stored(folder: Path) -> list[dict[str, Any]]:
    """Return the calibrations stored beside a folder's baselines, oldest first."""
    paths = sorted(folder.glob("perf_baselines/*/calibrations/*.json"))
    return [json.loads(path.read_text()) for path in paths]


def write_project(folder: Path) -> None:
    """Write the files of the project."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
