"""``llmperf tune`` beside a stand-in card: its memory and energy are metrics of a search."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand_in_card import Card, scenario

SIMULATOR = Path(__file__).parent.parent / "support" / "server_simulator.py"
#: A server that holds a gigabyte of the card as long as it lives.
ON_THE_CARD = """
import os, sys
from pathlib import Path

card = Path(os.environ["LLMPERF_NVML_SCENARIO"])
other = card.with_suffix(f".{os.getpid()}")
other.write_text(card.read_text() + f"tenant 0 {os.getpid()} 1073741824 python\\n")
other.replace(card)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
TEST = """
import pytest

@pytest.mark.energy_per_token(max="1J")
def test_answer(llm_engine):
    llm_engine.generate("Hello there", max_tokens=40)
"""
#: Ignores what else runs on the machine.
QUIET = """
from pytest_llmperf.session import machine_watch

machine_watch.judge = machine_watch.judge_host = lambda *_: []
"""


def plan(gap: float) -> str:
    """Return the plan of a simulated server that takes ``gap`` seconds for a token."""
    return json.dumps({"first": 0.02, "gap": gap, "cached": 0})


@pytest.fixture
def project(
    pytester: pytest.Pytester, card: Card, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    for name, value in card.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(pytester.path / "device.lock"))
    monkeypatch.setenv("LLMPERF_CACHE_DIR", str(pytester.path / "cache"))
    card.set(scenario("healthy"))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(test_answers=TEST, conftest=QUIET, on_the_card=ON_THE_CARD)
    return pytester


def tune(project: pytest.Pytester, *start: object, gap: float) -> dict[str, Any]:
    """Search for a better plan of the server, which is started with ``start``; return the result.

    The current plan takes ``gap`` seconds for a token, the other one more.
    """
    words = shlex.join(map(str, (*start, SIMULATOR)))
    command = f"{{python}} {words} --port {{port}}"
    llm: dict[str, Any] = {"engine": "server", "start": command, "api": "completions"}
    llm |= {"extra": {"plan": plan(gap)}}
    space = {"extra.plan": [plan(2.5 * gap)]}
    config = {"llm": llm, "tune": {"space": space, "budget": "90s"}}
    (project.path / "config.yaml").write_text(yaml.safe_dump(config))
    options = ("--phase", "1", "--json", "out.json")
    done = project.run(sys.executable, "-m", "pytest_llmperf.cli", "tune", *options, timeout=150)
    assert done.ret == 0, done.stderr.str()
    return dict(json.loads((project.path / "out.json").read_text()))


def test_a_search_for_less_energy_has_it_and_the_memory_of_every_point(
    project: pytest.Pytester,
) -> None:
    # Energy takes a window of seconds.
    result = tune(project, project.path / "on_the_card.py", gap=0.02)
    (point,) = result["points"]
    # Two and a half times as long for a token: only a pair shows whether it is as much energy.
    assert (point["outcome"], point["pairs"]) == ("lost", 1), point["reason"]
    today = {level["metric"]: level["value"] for level in result["before"]["levels"]}
    known = {level["metric"]: level["value"] for level in point["levels"]}
    assert today["gpu_memory"] == known["gpu_memory"] == 1 << 30
    assert known["energy_per_token"] > 1.3 * today["energy_per_token"]
    assert {"gpu_memory", "energy_per_token"} <= {*result["pareto_metrics"]}
    (target,) = result["targets"]
    assert (target["metric"], target["before"]) == ("energy_per_token", "missed")


def test_energy_that_can_not_be_measured_is_said_with_its_reason(project: pytest.Pytester) -> None:
    # The server is not on the card.
    (point,) = tune(project, gap=0.002)["points"]
    assert (point["outcome"], point["pairs"]) == ("failed", 0)
    assert point["reason"] == (
        "it could not be measured: energy/token: the engine's process used none of the GPUs that "
        "NVML reports"
    )
