"""A folder with perf tests of a small application, and how to run them and read the outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

# Sessions run inside this process forget the modules they imported, and some
# of these (pydantic's core) can be imported only once per process.
import pytest_llmperf.config.load
import pytest_llmperf.config.model_path
import pytest_llmperf.engine.handle
import pytest_llmperf.plugin.session  # noqa: F401
from pytest_llmperf.config.embedded import cache_dir

#: An application that answers in a few milliseconds; what it is asked decides what happens.
TOY = """
import os, pathlib, signal, time

pathlib.Path("loaded").touch()

def answer(prompt, max_tokens=4):
    calls = pathlib.Path("calls")
    count = len(calls.read_text()) if calls.exists() else 0
    calls.write_text("x" * (count + 1))
    if prompt == "crash" or (prompt == "crash later" and count):
        os.kill(os.getpid(), signal.SIGSEGV)
    if prompt == "hang later" and count:
        pathlib.Path("hanging").write_text(str(os.getpid()))
        time.sleep(600)
    for number in range(max_tokens or 4):
        time.sleep(0.002)
        yield f"word{number} "
"""

#: One thread: a busy neighbour's core is not the application's.
APP = """
llm:
  engine: app
  target: toy:answer
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
  iterations: 3
"""

#: hypothesis imports itself whole at the end of every session, which takes a second.
INI = """
[pytest]
addopts = -p no:hypothesispytest
asyncio_default_fixture_loop_scope = function
"""


CACHE = cache_dir()


class Project:
    """A folder with tests of an application, and how to run them."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def write(self, **files: str) -> None:
        """Write ``name=source`` as name.py, each importing pytest."""
        self.pytester.makepyfile(
            **{name: f"import pytest\n{dedent(source)}" for name, source in files.items()}
        )

    def configure(self, text: str) -> None:
        """Write config.yaml."""
        self.path.joinpath("config.yaml").write_text(text)

    def ini(self, line: str) -> None:
        """Add a line to pytest's own settings."""
        file = self.path / "tox.ini"
        file.write_text(f"{file.read_text().rstrip()}\n{line}\n")

    def here(self, *args: str) -> pytest.RunResult:
        """Run ``pytest *args`` inside this process."""
        return self.pytester.runpytest_inprocess(*args)

    def run(self, *args: str) -> pytest.RunResult:
        """Run ``pytest *args`` in a process of its own."""
        return self.pytester.runpytest_subprocess(*args, timeout=100)

    def perf(self, *args: str) -> pytest.RunResult:
        """Run ``pytest -m perf *args`` inside this process, with a JSON report."""
        return self.here("-m", "perf", "--llmperf-json", "out.json", *args)

    def session(self) -> dict[str, Any]:
        """The JSON report of the last ``perf``."""
        report: dict[str, Any] = json.loads(self.path.joinpath("out.json").read_text())
        return report

    def verdicts(self) -> dict[str, str]:
        """Verdict of each test by the name after ``::``."""
        return {t["nodeid"].partition("::")[2]: t["verdict"] for t in self.session()["tests"]}

    def baselines(self) -> list[Path]:
        """The recorded files, in order."""
        return sorted(self.path.glob("perf_baselines/*/*.json"))

    def edit_baseline(self, change: Callable[[dict[str, Any]], None]) -> Path:
        """Change the only recorded file."""
        (path,) = self.baselines()
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))
        return path

    @property
    def was_loaded(self) -> bool:
        """Whether any engine was started."""
        return self.path.joinpath("loaded").exists()


def times(factor: float, *metrics: str) -> Callable[[dict[str, Any]], None]:
    """An edit that multiplies a baseline's samples of these metrics (all, if none is named)."""

    def change(record: dict[str, Any]) -> None:
        for test in record["tests"].values():
            for name, metric in test["metrics"].items():
                if not metrics or name in metrics:
                    metric["samples"] = [[v * factor for v in row] for row in metric["samples"]]

    return change
