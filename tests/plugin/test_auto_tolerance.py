"""``perf.tolerance: auto``: sessions are judged by the tolerance that a calibration gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plugin_projects import APP, all_output, app_config

pytestmark = pytest.mark.usefixtures("quiet_machine")

AUTO = f"{APP}  tolerance: auto\n  max_pairs: 1\n"
AGAINST = ("--llmperf-against-config", "other.yaml")
TEST = """
@pytest.mark.end_to_end
def test_x(llm_engine):
    llm_engine.generate("a", max_tokens=4)

@pytest.mark.end_to_end(tolerance="30%")
def test_own(llm_engine):
    llm_engine.generate("a", max_tokens=4)

@pytest.mark.first_token(tolerance="auto")
@pytest.mark.stall_rate(tolerance="auto")
def test_marked(llm_engine):
    llm_engine.generate("a", max_tokens=4)
"""
NONE = "tolerance auto is 5% here: no calibration of these tests"


@pytest.fixture
def two(project):
    """A project with ``tolerance: auto``, and a second configuration of the same engine."""
    project.write(test_it=TEST)
    project.configure(AUTO)
    project.configure(APP, "other.yaml")
    return project


def calibrate(project, holds: float, **changes: Any) -> str:
    """Store a calibration as ``llmperf calibrate`` does, and return its file's name."""
    session = project.session()
    ((machine, record),) = [
        (path.parent, json.loads(path.read_text())) for path in project.baselines()[-1:]
    ]
    name = "20261101T101500Z.json"
    folder = machine / "calibrations"
    folder.mkdir(exist_ok=True)
    content = {
        "schema": 1,
        "recorded": "2026-11-01T10:15:00Z",
        "plant": "",
        "model": record["model"]["name"],
        "config": record["config"],
        "iterations": 3,
        "turns": "auto",
        "checks": [
            {
                "nodeid": test["nodeid"],
                "metric": metric,
                "workload": test["workload"]["hash"],
                "level": 0.08,
                **dict.fromkeys(("within", "between", "pair", "mde")),
                "holds": {"60": holds + 0.1, "300": holds},
            }
            for test in session["tests"]
            for metric in ("end_to_end", "first_token")
        ],
    }
    folder.joinpath(name).write_text(json.dumps(content | changes))
    return f"calibrations/{name}"


def tolerances(project) -> dict[str, tuple[float, float | None]]:
    """Return each gated check's tolerance in the last session, and what its calibration holds."""
    return {
        f"{test['nodeid'].partition('::')[2]} {metric['name']}": (
            metric["tolerance"],
            metric["calibrated"] and metric["calibrated"]["holds"],
        )
        for test in project.session()["tests"]
        for metric in test["metrics"]
        if metric["gated"]
    }


def recorded_tolerances(project) -> dict[str, Any]:
    tests = json.loads(project.baselines()[-1].read_text())["tests"]
    return {
        f"{nodeid.partition('::')[2]} {metric}": tolerance
        for nodeid, test in tests.items()
        for metric, tolerance in test.get("tolerances", {}).items()
    }


def test_pairs_take_what_the_calibration_holds_and_stored_sessions_no_less_than_the_default(two):
    result = two.perf("--llmperf-record")
    fixed = {"test_own end_to_end": (0.3, None), "test_marked stall_rate": (0.2, None)}
    assert tolerances(two) == {
        "test_x end_to_end": (0.05, None),
        "test_marked first_token": (0.05, None),
        **fixed,
    }
    assert NONE in all_output(result)
    assert recorded_tolerances(two) == {}
    file = calibrate(two, 0.015)

    result = two.perf(*AGAINST, "--llmperf-record")
    assert tolerances(two) == {
        "test_x end_to_end": (0.02, 0.015),
        "test_marked first_token": (0.02, 0.015),
        **fixed,
    }
    why = f"tolerance auto: 2%, from {file} (2026-11-01): sessions of 5 min can hold 1.5%"
    assert f"{why}; it is at least 2%" in all_output(result)
    assert NONE not in all_output(result)
    expected = {
        "tolerance": 0.02,
        "holds": 0.015,
        "seconds": 300,
        "calibration": file,
        "recorded": "2026-11-01T10:15:00Z",
    }
    assert recorded_tolerances(two) == {
        "test_x end_to_end": expected,
        "test_marked first_token": expected,
    }

    result = two.perf("-k", "test_x")
    assert tolerances(two) == {"test_x end_to_end": (0.05, 0.015)}
    assert "can hold 1.5%; against stored sessions it is at least 5%" in all_output(result)

    # A session with a budget of a minute, and a tolerance that stored sessions hold too.
    result = two.perf("-k", "test_x", "--llmperf-set", "perf.budget=1m")
    assert tolerances(two) == {"test_x end_to_end": (0.115, 0.115)}
    assert "tolerance auto: 11.5%, from" in all_output(result)


def test_a_calibration_of_other_settings_gives_no_tolerance(two):
    two.perf("--llmperf-record", "-k", "test_x")
    calibrate(two, 0.1, config={})
    result = two.perf("-k", "test_x", *AGAINST)
    assert tolerances(two) == {"test_x end_to_end": (0.05, None)}
    assert NONE in all_output(result)


SLOWER = """
import time

def answer(prompt, max_tokens=4, seconds=0.008):
    for number in range(max_tokens or 4):
        time.sleep(seconds)
        yield f"word{number} "

def slower(prompt, max_tokens=4):
    return answer(prompt, max_tokens, 0.011)
"""


def test_a_slowdown_within_what_the_machine_holds_passes(two):
    two.write(toy=SLOWER)
    two.configure(f"{app_config('toy:slower')}  tolerance: auto\n")
    two.perf("--llmperf-record", "-k", "test_x")
    calibrate(two, 0.7)
    two.perf("-k", "test_x", *AGAINST)
    assert tolerances(two) == {"test_x end_to_end": (0.7, 0.7)}
    assert two.verdicts() == {"test_x": "pass"}
