"""Calibrations beside the baselines: written once, read back, never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.file_damage import damaged, find_fault
from pytest_llmperf.baselines.calibrations import FOLDER, read_calibrations, write_calibration
from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.json_text import dumps
from pytest_llmperf.baselines.store import BaselineStore

RECORDED = "2026-11-23T04:00:00Z"
CHECK = {
    "nodeid": "test_a.py::test",
    "metric": "end_to_end",
    "workload": "1234",
    "level": 1.5,
    "within": 0.004,
    "between": 0.01,
    "pair": 0.014,
    "mde": 0.05,
    "holds": {},
}
CONFIG = {"model_path": "a.gguf", "n_batch": 512, "extra": {"rope": 0.123456789012}}
MEASURED = {"iterations": 3, "turns": "auto"}
DATA = {"model": "m", "plant": "", "config": CONFIG, **MEASURED, "checks": [CHECK]}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = write_calibration(tmp_path, RECORDED, DATA)
    (stored,), problems = read_calibrations(tmp_path)
    assert (stored.path, stored.plant, stored.model, problems) == (path, "", "m", [])
    assert stored.checks[0].level == 1.5


def test_a_baseline_keeps_which_calibration_it_was_and_its_noise(tmp_path: Path) -> None:
    path = write_calibration(tmp_path, RECORDED, DATA)
    summary = read_calibrations(tmp_path)[0][0].summary()
    assert summary["file"] == f"{FOLDER}/{path.name}"
    assert summary["checks"] == [
        {key: CHECK[key] for key in ("nodeid", "metric", "within", "between", "pair", "mde")}
    ]


def test_two_of_one_second_both_stay(tmp_path: Path) -> None:
    first, second = (write_calibration(tmp_path, RECORDED, DATA) for _ in range(2))
    assert first != second
    assert len(read_calibrations(tmp_path)[0]) == 2


def test_a_calibration_is_no_recorded_session(tmp_path: Path) -> None:
    write_calibration(tmp_path / "machine", RECORDED, DATA)
    store = BaselineStore(tmp_path)
    store.check_all()
    assert store.read_machine("machine") == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "recorded": "x", "checks": [{}]}', "[" * 9000],
)
def test_a_broken_one_is_named_and_stops_nothing(tmp_path: Path, text: str) -> None:
    write_calibration(tmp_path, RECORDED, DATA)
    bad = tmp_path / FOLDER / "bad.json"
    bad.write_text(text)
    calibrations, (problem,) = read_calibrations(tmp_path)
    assert len(calibrations) == 1
    assert str(bad) in problem


def test_a_number_that_is_none_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be stored"):
        write_calibration(tmp_path, RECORDED, {**DATA, "level": float("nan")})
    assert not (tmp_path / FOLDER).exists()


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("")
    with pytest.raises(BaselineError, match="could not be stored"):
        write_calibration(tmp_path, RECORDED, DATA)


@pytest.mark.parametrize(
    ("model", "config", "alike"),
    [
        ("m", CONFIG, True),
        ("m", {**CONFIG, "model_path": "elsewhere/a.gguf"}, True),
        ("other", CONFIG, False),
        ("m", {**CONFIG, "n_batch": 256}, False),
        ("m", {**CONFIG, "extra": {}}, False),
        ("m", {**CONFIG, "extra": {"rope": float("nan")}}, False),
    ],
    ids=["same", "same bytes elsewhere", "model", "setting", "extra", "cannot be stored"],
)
def test_it_is_of_one_model_and_its_settings(
    tmp_path: Path, model: str, config: dict[str, Any], alike: bool
) -> None:
    write_calibration(tmp_path, RECORDED, DATA)
    (stored,), _ = read_calibrations(tmp_path)
    assert stored.is_of(model, config) is alike


def test_whatever_a_value_becomes_it_is_used_or_named_once(tmp_path: Path) -> None:
    path = write_calibration(tmp_path, RECORDED, DATA)
    for variant in damaged(path.read_text()):
        path.write_text(variant.text)
        calibrations, problems = read_calibrations(tmp_path)
        assert len(calibrations) + len(problems) == 1
        for calibration in calibrations:
            dumps(calibration.summary())
            calibration.is_of("m", CONFIG)
            assert all(check.level >= 0 for check in calibration.checks)
        for problem in problems:
            assert find_fault("", problem, path.name, refused=True) == "", variant.place


def test_a_level_of_zero_is_one_where_the_metric_may_be_zero(tmp_path: Path) -> None:
    for metric, of in (("gpu_power", 1), ("end_to_end", 0)):
        check = {**CHECK, "metric": metric, "level": 0.0}
        write_calibration(tmp_path / metric, RECORDED, {**DATA, "checks": [check]})
        assert len(read_calibrations(tmp_path / metric)[0]) == of
