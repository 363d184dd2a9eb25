"""A folder with perf tests of a small application; runs them and reads the outcome."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from stored_sessions import store_daily

# Sessions run inside this process forget the modules they imported, and some
# of these (pydantic's core) can be imported only once per process.
import pytest_llmperf.config.load
import pytest_llmperf.config.model_path
import pytest_llmperf.engine.handle
import pytest_llmperf.plugin.session  # noqa: F401
from pytest_llmperf.config.embedded import cache_dir

#: An application that answers in a few milliseconds; some prompts make it crash or hang.
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

def slow(prompt, max_tokens=4):
    for number in range(max_tokens or 4):
        time.sleep(0.006)
        yield f"word{number} "

def steady(prompt, max_tokens=4):
    # So slow that a busy machine adds a small share of its time.
    for number in range(max_tokens or 4):
        time.sleep(0.02)
        yield f"word{number} "
"""

#: One thread: a busy process on another core takes nothing from the application. One process:
#: a test that one process decides is fast.
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

#: The real engine and model, as small as they go.
REAL = """
llm:
  model_path: smollm2-135m
  n_ctx: 256
  n_batch: 128
  max_tokens: 8
  n_threads: 1
  n_threads_batch: 1
perf:
  processes: 1
  iterations: 3
  warmup_max: 2
"""


def app_config(target: str) -> str:
    """Return a configuration of the same engine with another callable."""
    return APP.replace("toy:answer", target)


#: Severities for a busy machine, which makes this client late, too.
LATE_CLIENT = dict.fromkeys(("client_busy", "client_slip", "rate_not_reached"), "note")
THREE_PAIRS = dict.fromkeys(("processes", "max_processes", "max_pairs"), 3)


def server_config(perf: Mapping[str, object], **llm: object) -> str:
    """Return the configuration of a server, as JSON, which is YAML too."""
    return json.dumps({"llm": {"engine": "server", "api": "completions", **llm}, "perf": perf})


#: hypothesis imports all of itself at the end of every session, which takes a second.
INI = """
[pytest]
addopts = -p no:hypothesispytest
asyncio_default_fixture_loop_scope = function
"""


CACHE = cache_dir()


class Project:
    """A folder with tests of an application; runs them and reads the outcome."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path

    def write(self, **files: str) -> None:
        """Write ``name=source`` as name.py, each importing pytest."""
        self.pytester.makepyfile(
            **{name: f"import pytest\n{dedent(source)}" for name, source in files.items()}
        )

    def configure(self, text: str, name: str = "config.yaml") -> None:
        """Write config.yaml, or a configuration file of another name."""
        self.path.joinpath(name).write_text(text)

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

    def check_refused(
        self, *args: str, selected: Sequence[str] = ("-m", "perf")
    ) -> pytest.LineMatcher:
        """Check that tests are refused in plain words, and nothing is loaded; return stderr."""
        result = self.here(*selected, *args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        for stream in (result.stdout, result.stderr):
            stream.no_fnmatch_line("*Traceback*")
            stream.no_fnmatch_line("*INTERNALERROR*")
        assert not self.was_loaded
        return result.stderr

    def record_once(self, kept: Path) -> None:
        """Record a session and keep it in this folder, or restore the session kept there."""
        if kept.exists():
            shutil.copytree(kept, self.path, dirs_exist_ok=True)
            return
        result = self.perf("--llmperf-record")
        assert result.ret == 0
        assert set(self.verdicts().values()) == {"no baseline"}
        kept.mkdir()
        shutil.copytree(self.path / "perf_baselines", kept / "perf_baselines")
        shutil.copy(self.path / "out.json", kept)

    def session(self) -> dict[str, Any]:
        """Return the JSON report of the last ``perf`` session."""
        report: dict[str, Any] = json.loads(self.path.joinpath("out.json").read_text())
        return report

    def verdicts(self) -> dict[str, str]:
        """Return the verdict of each test, by the name after ``::``."""
        return {t["nodeid"].partition("::")[2]: t["verdict"] for t in self.session()["tests"]}

    def metric(self, name: str | None = None) -> dict[str, Any]:
        """Return a metric of the last session's only test; by default its only gated metric."""
        (test,) = self.session()["tests"]
        matches = [m for m in test["metrics"] if m["name"] == name or (name is None and m["gated"])]
        (metric,) = matches
        return metric

    def sampled(self) -> dict[str, int]:
        """Return the number of processes (or pairs) of each test, by the name after ``::``."""
        return {
            test["nodeid"].partition("::")[2]: max(len(m["samples"]) for m in test["metrics"])
            for test in self.session()["tests"]
        }

    def baselines(self) -> list[Path]:
        """Return the recorded files, in order."""
        return sorted(self.path.glob("perf_baselines/*/*.json"))

    def edit_baseline(self, change: Callable[[dict[str, Any]], None]) -> Path:
        """Change the only recorded file, and return its path."""
        (path,) = self.baselines()
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))
        return path

    def move_baseline(self, machine: str) -> None:
        """Make the only recorded file one of another machine."""
        path = self.edit_baseline(lambda record: record["machine"].update(key=machine))
        folder = path.parent.with_name(machine)
        folder.mkdir()
        path.rename(folder / path.name)

    def store_sessions(self, factors: Sequence[float]) -> list[str]:
        """Replace the only recorded session by one a day, its samples times a factor.

        Returns the names of their files.
        """
        (path,) = self.baselines()
        return store_daily(path, factors)

    @property
    def was_loaded(self) -> bool:
        """Whether any engine was started."""
        return self.path.joinpath("loaded").exists()


def all_output(result: pytest.RunResult) -> str:
    """Return all output, with white space as single spaces because lines wrap anywhere."""
    return " ".join(f"{result.stdout.str()} {result.stderr.str()}".split())
