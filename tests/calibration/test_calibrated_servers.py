"""``llmperf calibrate`` of a server that runs already."""

from __future__ import annotations

import json
import sys

import pytest
from calibration_projects import CONFTEST
from running_servers import simulated_servers

COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "calibrate")
#: A simulated server needs no pause to recover before a block.
QUICK_BLOCKS = """
from pytest_llmperf.measure.replication import BLOCK

vars(BLOCK)["pause_seconds"] = 0.02
"""


@pytest.fixture(autouse=True)
def _served(project: pytest.Pytester):
    """Make a simulated server the project's engine."""
    # A slow first token, as a busy machine adds milliseconds.
    with simulated_servers(first=0.05, gap=0.002, cached=0) as start:
        llm = {"engine": "server", "api": "completions", "url": start()}
        config = {"llm": llm, "perf": {"tolerance": "50%", "max_pairs": 8}}
        project.path.joinpath("config.yaml").write_text(json.dumps(config))
        project.path.joinpath("conftest.py").write_text(CONFTEST + QUICK_BLOCKS)
        yield


def test_sessions_of_a_server_that_runs_already_are_made_of_blocks(
    project: pytest.Pytester,
) -> None:
    result = project.run(*COMMAND, "--sessions", "2", timeout=180)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*session 1/2: 3 pass*",
            "*A/A: two sides that are alike; 2 sessions judged",
            "*sessions with a false alarm: 0 of 2*",
            "*pairs of blocks*",
            "*metric*iteration*block*",
            "*stored in*",
        ]
    )
    result.stdout.no_fnmatch_line("*processes*")
    (path,) = project.path.glob("perf_baselines/*/calibrations/*.json")
    checks = json.loads(path.read_text())["checks"]
    assert [check["passed"] for check in checks] == [2, 2, 2]


def test_a_server_that_runs_already_cannot_be_slowed(project: pytest.Pytester) -> None:
    result = project.run(*COMMAND, "--sessions", "1", "--plant", "5%", timeout=120)
    assert result.ret != 0
    assert "does not support planted slowdowns" in f"{result.stdout}{result.stderr}"
