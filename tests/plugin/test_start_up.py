"""Loaded but unused, the plugin imports nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from plugin_projects import APP

HEAVY = (
    "llama_cpp",
    "numpy",
    "scipy",
    "pynvml",
    "pydantic",
    "yaml",
    "psutil",
    "filelock",
    "rich",
)

#: Runs pytest and writes down the modules that are imported when the session has ended.
RUN = """
import json, pathlib, sys
import pytest

class Spy:
    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        pathlib.Path("modules.json").write_text(json.dumps(sorted(sys.modules)))

sys.exit(pytest.main(sys.argv[1:], plugins=[Spy()]))
"""

#: Other plugins in this environment import numpy and the like themselves.
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def modules(project, monkeypatch, *args: str) -> set[str]:
    """Return the modules that a session of this project has imported when it ends."""
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    project.path.joinpath("tox.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-c", RUN, "-p", "pytest_llmperf.plugin", *args],
        cwd=project.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED), done.stdout + done.stderr
    return set(json.loads(project.path.joinpath("modules.json").read_text()))


def heavy(found: set[str]) -> set[str]:
    """Return the modules that cost start-up time, including the gate's mathematics."""
    return {
        name
        for name in found
        if name.partition(".")[0] in HEAVY
        or name.startswith(("pytest_llmperf.stats", "pytest_llmperf.gate"))
    }


def test_an_empty_session_imports_nothing_heavy(project, monkeypatch):
    project.write(test_it="")
    found = modules(project, monkeypatch)
    assert heavy(found) == set()
    ours = {name.removeprefix("pytest_llmperf.") for name in found if "pytest_llmperf." in name}
    # The clock is taken before a test's library can replace it.
    others = {"arguments", "engine", "engine.own_time"}
    assert {name for name in ours if not name.startswith("plugin")} == others


def test_a_session_that_leaves_perf_tests_out_imports_nothing_heavy(project, monkeypatch):
    project.write(
        test_it="""
        @pytest.mark.tokens_per_sec(min=1)
        def test_x(llm_engine): pass

        def test_plain(): pass
        """
    )
    assert heavy(modules(project, monkeypatch)) == set()


def test_a_perf_session_never_imports_the_engine_here(one_test, monkeypatch):
    found = modules(one_test, monkeypatch, "-m", "perf")
    assert "pydantic" in found
    # Progress in a log does not need rich.
    assert {"llama_cpp", "rich"} & found == set()


def test_a_gate_needs_no_scipy(one_test, monkeypatch):
    one_test.configure(APP + "  max_pairs: 3\n")
    one_test.configure(APP, "other.yaml")
    found = modules(one_test, monkeypatch, "-m", "perf", "--llmperf-against-config", "other.yaml")
    assert "pytest_llmperf.stats.paired" in found
    assert "scipy" not in found
