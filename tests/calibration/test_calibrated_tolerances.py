"""The tolerance that stored calibrations give a check: ``tolerance: auto``."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.baselines.calibrations import StoredCalibration, StoredCheck, read_calibrations
from pytest_llmperf.baselines.lookup import find_baseline_folder
from pytest_llmperf.baselines.tolerances import CalibratedTolerance, calibrated_tolerances
from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.gate.check import Check
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.tolerances import calibrated, tolerances_of
from pytest_llmperf.stored_json import dump
from pytest_llmperf.units import UnitError, parse_tolerance_setting

TEST = "tests/perf/test_chat.py::test_short"
OTHER = "tests/perf/test_chat.py::test_long"


def check(minute: float | None, five: float | None, **fields: Any) -> StoredCheck:
    defaults = {"nodeid": TEST, "metric": "end_to_end", "workload": "w1", "level": 1.0}
    return StoredCheck(**{**defaults, "holds": {"60": minute, "300": five}, **fields})


def calibration(*checks: StoredCheck, day: int = 1, **fields: Any) -> StoredCalibration:
    path, recorded = Path(f"2026110{day}T101500Z.json"), f"2026-11-0{day}T10:15:00Z"
    how = {"iterations": 3, "turns": "auto", **fields}
    return StoredCalibration(1, recorded, "", "model", {}, checks, path=path, **how)


def recorded(**fields: Any) -> Any:
    common = {"nodeid": TEST, "workload": SimpleNamespace(hash="w1"), "budget": None}
    return SimpleNamespace(**{**common, "identity": {}, **fields})


def taken(*calibrations: StoredCalibration, seconds: float = 600.0) -> CalibratedTolerance:
    return calibrated_tolerances(calibrations, TEST, "w1", seconds)["end_to_end"]


@pytest.mark.parametrize(
    ("seconds", "tolerance", "length"),
    [(600.0, 0.025, 300.0), (300.0, 0.025, 300.0), (299.0, 0.04, 60.0), (10.0, 0.04, 60.0)],
)
def test_the_time_of_a_test_chooses_the_figure(
    seconds: float, tolerance: float, length: float
) -> None:
    found = taken(calibration(check(0.04, 0.025)), seconds=seconds)
    assert (found.tolerance, found.holds, found.seconds) == (tolerance, tolerance, length)


def test_the_tests_of_a_calibration_shared_the_time_of_its_sessions() -> None:
    both = calibration(check(0.04, 0.025), check(0.1, 0.1, nodeid=OTHER))
    assert taken(both, seconds=150.0).seconds == 300.0
    assert taken(both, seconds=149.0).seconds == 60.0


def test_a_test_has_its_share_of_the_budget_or_its_own_less() -> None:
    calibrations = [calibration(check(0.04, 0.025))]

    def length(count: int, **perf: Any) -> float:
        tests = [
            recorded(),
            *(SimpleNamespace(**{**vars(recorded()), "nodeid": str(n)}) for n in range(count - 1)),
        ]
        return tolerances_of(tests, PerfConfig(**perf), calibrations)[TEST]["end_to_end"].seconds

    assert length(2, budget=600.0) == 300.0
    assert length(3, budget=600.0) == 60.0
    assert length(1, budget=600.0, test_budget=100.0) == 60.0


def test_it_is_rounded_up_to_half_percents_and_never_below_two() -> None:
    for holds, tolerance in ((0.005, 0.02), (0.02, 0.02), (0.0201, 0.025), (0.31, 0.31)):
        assert taken(calibration(check(None, holds))).tolerance == pytest.approx(tolerance)


def test_where_nothing_holds_it_stays_the_default() -> None:
    found = taken(calibration(check(0.3, None)))
    assert (found.tolerance, found.holds) == (0.05, None)


def test_the_newest_calibration_that_knows_the_check_counts() -> None:
    old = calibration(check(0.04, 0.04), check(0.1, 0.1, metric="first_token"), day=1)
    new = calibration(check(0.03, 0.03), day=2)
    tolerances = calibrated_tolerances([old, new], TEST, "w1", 600.0)
    assert {name: figure.tolerance for name, figure in tolerances.items()} == {
        "end_to_end": 0.03,
        "first_token": 0.1,
    }
    assert tolerances["end_to_end"].calibration == "calibrations/20261102T101500Z.json"
    assert tolerances["end_to_end"].recorded == "2026-11-02T10:15:00Z"


def test_another_workload_test_or_way_of_measuring_does_not_count() -> None:
    assert calibrated_tolerances([calibration(check(0.03, 0.03))], TEST, "w2", 600.0) == {}
    assert calibrated_tolerances([calibration(check(0.03, 0.03))], OTHER, "w1", 600.0) == {}
    assert calibrated_tolerances([calibration(check(0, 0, holds={}))], TEST, "w1", 600.0) == {}
    perf = PerfConfig(iterations=5)
    for fields, count in (
        ({"iterations": 5}, 1),
        ({"iterations": 3}, 0),
        ({"iterations": 5, "turns": "processes"}, 0),
    ):
        tolerances = tolerances_of([recorded()], perf, [calibration(check(0.03, 0.03), **fields)])
        assert len(tolerances[TEST]) == count


def test_a_cell_of_a_sweep_takes_only_the_figure_of_its_own_settings() -> None:
    calibrations = [
        calibration(check(0.1, 0.1), day=1),
        calibration(check(0.03, 0.03, settings={"n_batch": 512, "n_ubatch": 512}), day=2),
    ]

    def holds(settings: dict[str, Any]) -> list[float | None]:
        tolerances = tolerances_of([recorded(identity=settings)], PerfConfig(), calibrations)[TEST]
        return [figure.holds for figure in tolerances.values()]

    assert holds({"n_batch": 512, "n_ubatch": 512}) == [0.03]
    assert holds({"n_batch": 256}) == []
    assert holds({}) == [0.1]


def test_it_is_for_checks_that_ask_and_against_stored_sessions_never_below_the_default() -> None:
    metric = get_metric("end_to_end")
    for holds, against_stored in ((0.02, 0.05), (0.2, 0.2)):
        tolerances = {"end_to_end": taken(calibration(check(holds, holds)))}
        asks = Check(metric, None, 0.05, auto=True)
        assert calibrated(asks, tolerances, paired=True).tolerance == holds
        assert calibrated(asks, tolerances, paired=False).tolerance == against_stored
        fixed = Check(metric, None, 0.05)
        assert calibrated(fixed, tolerances, paired=True) is fixed


def test_even_ten_equal_stored_sessions_hold_no_tolerance_far_below_the_default() -> None:
    import numpy as np

    from pytest_llmperf.gate.rules import FALSE_PASSES
    from pytest_llmperf.stats.prediction import decides_from, passes_up_to, predict

    alike = predict(np.zeros(10))

    def holds(tolerance: float) -> bool:
        caught = decides_from(alike, tolerance, 0.01) <= 1.25 * tolerance
        return bool(caught and passes_up_to(alike, tolerance, 1 - FALSE_PASSES) >= 0)

    assert [tolerance for tolerance in (0.02, 0.025, 0.05) if holds(tolerance)] == [0.05]


@pytest.mark.parametrize(
    "holds", [{"60": 0}, {"60": 1.5}, {"60": "5%"}, {"soon": 0.05}, {"-1": 0.05}, {"inf": 0.05}, []]
)
def test_a_damaged_figure_is_a_damaged_file(tmp_path: Path, holds: Any) -> None:
    folder = tmp_path / "calibrations"
    folder.mkdir()
    file = {"schema": 1, "recorded": "x", "plant": "", "model": "m", "config": {}}
    file |= {"iterations": 3, "turns": "auto"}
    text = json.dumps({**file, "checks": [{**dump(check(0.1, 0.1)), "holds": holds}]})
    (folder / "a.json").write_text(text)
    calibrations, problems = read_calibrations(tmp_path)
    assert calibrations == []
    assert "checks[0].holds" in problems[0]


def test_commands_without_a_calibration_take_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "perf_baselines").mkdir()
    (tmp_path / "config.yaml").write_text("perf: {tolerance: auto}\n")
    assert find_baseline_folder(None).tolerance == 0.05


def test_a_wrong_setting_names_auto() -> None:
    assert parse_tolerance_setting("auto") == "auto"
    with pytest.raises(UnitError, match="or auto, got 'automatic'"):
        parse_tolerance_setting("automatic")
