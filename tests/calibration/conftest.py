"""A project for every test, and a shared one that is calibrated once and only read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from calibration_projects import FEW_PAIRS, Calibrated, write_project
from quick_sessions import OUR_PLUGIN_ALONE


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    # Sessions of this user outside the test hold the usual lock.
    monkeypatch.setenv("LLMPERF_DEVICE_LOCK", str(pytester.path / "device.lock"))
    for name, value in OUR_PLUGIN_ALONE.items():
        monkeypatch.setenv(name, value)
    write_project(pytester.path)
    return pytester


@pytest.fixture
def few_pairs(project: pytest.Pytester) -> pytest.Pytester:
    """Return the project with settings for quick calibrations that decide nothing."""
    project.path.joinpath("config.yaml").write_text(FEW_PAIRS)
    return project


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """Return a project that was calibrated once, with all installed plugins."""
    folder = tmp_path_factory.mktemp("calibrated")
    write_project(folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_llmperf.cli", "calibrate", "--sessions", "2"],
        cwd=folder,
        env={**os.environ, "LLMPERF_DEVICE_LOCK": str(folder / "device.lock")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Calibrated(folder, done)


@pytest.fixture
def project_with_calibration(few_pairs: pytest.Pytester, calibrated: Calibrated) -> pytest.Pytester:
    """Return the project with the calibration of another session."""
    shutil.copytree(calibrated.folder / "perf_baselines", few_pairs.path / "perf_baselines")
    return few_pairs
