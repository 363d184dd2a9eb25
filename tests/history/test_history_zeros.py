"""A metric that may be zero in the history: read by both parsers, drawn, and searched."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from history_projects import FOLDER, KEY, Project, record_of

from pytest_llmperf.baselines.record import MetricRecord, to_text
from pytest_llmperf.history import record_json
from pytest_llmperf.history.change_points import change_points, library
from pytest_llmperf.history.levels import read_levels
from pytest_llmperf.metrics import METRICS


def text_of(number: int, busy: float, first: float = 0.4) -> str:
    metrics = {
        "first_token": MetricRecord("s", ((first, 0.41),)),
        "gpu_utilization": MetricRecord("%", ((busy, busy),)),
    }
    return to_text(record_of(number, None, metrics=metrics))


def refuse_everything(_: bytes) -> None:
    raise ValueError


@pytest.mark.parametrize("strictly", [False, True])
def test_zeros_are_read_where_they_may_be_and_refused_elsewhere(
    monkeypatch: pytest.MonkeyPatch, strictly: bool
) -> None:
    if strictly:
        monkeypatch.setattr(record_json, "fast_parser", lambda: refuse_everything)
    else:
        monkeypatch.setattr(record_json, "parse", refuse_everything)
    for number in range(4):
        session = read_levels(text_of(number, 0.0 if number else 0.9).encode())
        assert session.values[1] == (0.0 if number else 0.9)
    monkeypatch.undo()
    bad = text_of(4, 0.0).replace("0.41", "0.0")
    with pytest.raises(ValueError, match=r"samples\[0\]\[1\]: expected a number from 1e-15"):
        read_levels(bad.encode())


def test_a_metric_that_fell_to_zero_is_shown(project: Project, show: Any) -> None:
    project.commit({"app.py": "1"})
    for number in range(12):
        path = f"{FOLDER}/{KEY}/{number:02}.json"
        project.commit({path: text_of(number, 0.9 if number < 6 else 0.0)}, day=number)
    result = show("--dir", FOLDER, "--metric", "gpu_utilization")
    (line,) = (line for line in result.out.splitlines() if line.strip().startswith("GPU busy"))
    assert "90.0%" in line
    assert "0.0%" in line.split()
    assert "nan" not in result.out
    (test,) = json.loads(show("--dir", FOLDER, "--json").out)["tests"]
    assert test["metrics"]["gpu_utilization"]["values"][-1] == 0.0


@pytest.mark.skipif(library() is None, reason="the history extra is not installed")
def test_a_fall_to_zero_is_a_change_of_level() -> None:
    values = np.array([0.9] * 20 + [0.0] * 20)
    (change,) = change_points(values, METRICS["gpu_utilization"])
    assert change.index == 20
    assert np.isfinite(change.effect)
