"""``llmperf calibrate`` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from calibration_projects import Calibrated, stored

COMMAND = (sys.executable, "-m", "pytest_llmperf.cli", "calibrate")


def recorded(project: pytest.Pytester, *arguments: str) -> dict[str, Any]:
    """Record a session and return its description in the recorded file."""
    project.runpytest_subprocess("-m", "perf", "--llmperf-record", *arguments, timeout=120)
    (path,) = project.path.glob("perf_baselines/*/*.json")
    session: dict[str, Any] = json.loads(path.read_text())["session"]
    return session


def test_an_unchanged_engine_raises_no_alarm_and_its_noise_is_kept(calibrated: Calibrated) -> None:
    assert calibrated.done.returncode == 0
    pytest.LineMatcher(calibrated.done.stdout.splitlines()).fnmatch_lines(
        [
            "*session 1/2: 3 pass*",
            "*A/A: two sides that are alike; 2 sessions judged",
            "*sessions with a false alarm: 0 of 2*",
            "*tokens/s*%*2/2*",
            "*stored in*",
            "*perf.tolerance: auto now uses: tokens/s *%*",
        ]
    )
    (calibration,) = calibrated.stored
    assert calibration["plant"] == ""
    assert [check["called"] for check in calibration["checks"]] == [0, 0, 0]
    assert all(check["between"] >= 0 for check in calibration["checks"])


def test_a_planted_slowdown_is_really_there_and_caught(project: pytest.Pytester) -> None:
    result = project.run(*COMMAND, "--sessions", "1", "--plant", "100%", timeout=120)
    result.stdout.fnmatch_lines(
        ["*session 1/1:*regressed*tokens_per_sec*", "*sessions caught it: 1 of 1*"]
    )
    result.stdout.no_fnmatch_line("*auto now uses*")
    effects = {
        check["metric"]: check["effect"] for check in stored(project.path)[0]["runs"][0]["checks"]
    }
    assert effects["tokens_per_sec"] > 0.7
    assert abs(effects["first_token"]) < 0.5


def test_the_samples_of_every_pair_are_kept_in_a_file_of_which_no_part_is_left_behind(
    few_pairs: pytest.Pytester,
) -> None:
    file = few_pairs.path / "out.json"
    file.write_text("older")
    few_pairs.run(*COMMAND, "--sessions", "1", "--json", "out.json", "--no-store", timeout=120)
    assert stored(few_pairs.path) == []
    run = json.loads(file.read_text())["runs"][0]
    check = run["checks"][0]
    assert len(check["candidate"]) == len(check["base"]) == run["pairs"]["test_toy.py::test_short"]
    assert list(few_pairs.path.glob(".out.json*")) == []


def test_a_later_session_records_the_calibration_it_was_judged_with(
    project_with_calibration: pytest.Pytester,
) -> None:
    assert recorded(project_with_calibration)["calibration"]["file"].startswith("calibrations/")


def test_a_planted_calibration_is_no_measure_of_the_noise(few_pairs: pytest.Pytester) -> None:
    few_pairs.run(*COMMAND, "--sessions", "1", "--plant", "50%", timeout=120)
    assert len(stored(few_pairs.path)) == 1
    assert recorded(few_pairs).get("calibration") is None


def test_a_calibration_of_other_settings_is_no_measure_of_the_noise(
    project_with_calibration: pytest.Pytester,
) -> None:
    assert (
        recorded(project_with_calibration, "--llmperf-set", "llm.seed=256").get("calibration")
        is None
    )


def test_settings_tolerances_and_invalid_pairs_are_kept(calibrated: Calibrated) -> None:
    (calibration,) = calibrated.stored
    assert calibration["config"]["target"] == "toy:answer"
    assert calibration["iterations"] == 3
    assert [check["tolerance"] for check in calibration["checks"]] == [0.5] * 3
    assert calibration["void_pairs"] == sum(run["void_pairs"] for run in calibration["runs"])


def test_recorded_sessions_of_other_settings_are_no_noise_between_sessions(
    few_pairs: pytest.Pytester,
) -> None:
    noises = []
    for settings in (("--llmperf-set", "llm.seed=256"), ()):
        few_pairs.runpytest_subprocess("-m", "perf", "--llmperf-record", *settings, timeout=120)
        few_pairs.run(*COMMAND, "--sessions", "1", "--json", "out.json", "--no-store", timeout=120)
        calibration = json.loads(few_pairs.path.joinpath("out.json").read_text())
        noises.append([check["sessions"] for check in calibration["checks"]])
    other, same = noises
    assert other == [None] * 3
    assert all(noise is not None for noise in same)


def test_levels_of_other_settings_are_no_noise_between_sessions(
    few_pairs: pytest.Pytester,
) -> None:
    for setting in ("256", "256", "512"):
        seed = ("--llmperf-set", f"llm.seed={setting}")
        few_pairs.run(*COMMAND, "--sessions", "1", "--", *seed, timeout=120)
    calibrations = stored(few_pairs.path)
    first, second, other = ([check["sessions"] for check in c["checks"]] for c in calibrations)
    assert first == other == [None] * 3
    assert all(noise is not None for noise in second)


def test_with_auto_each_calibration_is_judged_by_the_default_and_the_newest_counts(
    project: pytest.Pytester,
) -> None:
    auto = ("--llmperf-set", "perf.tolerance=auto", "--llmperf-set", "perf.max_pairs=3")
    for _ in range(2):
        project.run(*COMMAND, "--sessions", "1", "--", *auto, timeout=120)
    calibrations = stored(project.path)
    assert [[k["tolerance"] for k in c["checks"]] for c in calibrations] == [[0.05] * 3] * 2
    against = ("--llmperf-against-config", "config.yaml", "--llmperf-json", "out.json")
    project.runpytest_subprocess("-m", "perf", *auto, *against, timeout=120)
    (test,) = json.loads(project.path.joinpath("out.json").read_text())["tests"]
    newest = max(project.path.glob("perf_baselines/*/calibrations/*.json"))
    metrics = {m["name"]: (m["tolerance"], m["calibrated"]) for m in test["metrics"] if m["gated"]}
    figures = {check["metric"]: check["holds"]["300"] for check in calibrations[-1]["checks"]}
    assert len(metrics) == len(figures) == 3
    for name, holds in figures.items():
        tolerance, calibrated = metrics[name]
        assert tolerance == (0.05 if holds is None else max(holds, 0.02))
        assert (calibrated["holds"], Path(calibrated["calibration"]).name) == (holds, newest.name)


def test_arguments_after_two_dashes_choose_the_tests(project: pytest.Pytester) -> None:
    result = project.run(*COMMAND, "--sessions", "1", "--", "-k", "nothing_like_it", timeout=60)
    assert result.ret == 5
    assert stored(project.path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sessions", "0"], "expected an integer >= 1"),
        (["--plant", "5"], "expected a percentage"),
        (["--plant", "5%", "--plant-share", "0%"], "above 0%"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_runs(
    project: pytest.Pytester, arguments: list[str], message: str
) -> None:
    result = project.run(*COMMAND, *arguments, timeout=60)
    assert result.ret == 2
    assert message in result.stderr.str()


def test_interrupted_it_says_what_it_found_and_leaves_no_engine(project: pytest.Pytester) -> None:
    with Path("log").open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, "--sessions", "500"], stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while "session 2/500" not in Path("log").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 2
    text = Path("log").read_text()
    assert "sessions judged" in text
    assert stored(project.path) == []


def test_told_to_end_it_ends_its_pytest_and_engines_too(project: pytest.Pytester) -> None:
    with Path("log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "--sessions", "500"], stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while "session 1/500" not in Path("log").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    try:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        _, alive = psutil.wait_procs(children, timeout=20)
        assert (bool(children), alive) == (True, [])
    finally:
        # Otherwise five hundred sessions would block the device for every other test.
        process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
