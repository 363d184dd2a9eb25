"""Whether what a session will write can be written, known before it measures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.calibrations import FOLDER as CALIBRATIONS

if TYPE_CHECKING:
    from pytest_llmperf.session.calibration_request import CalibrationRequest


def unwritable_places(
    baselines: Path, machine: str, *, record: bool, calibration: CalibrationRequest | None
) -> list[str]:
    """Say which folder of the baselines can't be written to that a session will write to.

    Args:
        baselines: the folder of the stored sessions.
        machine: the key of this one; empty where it is not known yet.
        record: the session is stored.
        calibration: what is calibrated, or None.
    """
    folder = baselines / machine
    if calibration is not None:
        place = folder / CALIBRATIONS if machine else folder
        return unwritable(place, "perf.baselines") if calibration.store else []
    return unwritable(folder, "perf.baselines") if record else []


def unwritable(folder: Path, setting: str) -> list[str]:
    """Say so if nothing can be written in ``folder``, or in the nearest that exists above it."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return [f"{setting}: {place} is a file, no folder; move it away or name another folder"]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"{setting}: nothing can be written in {place}; change its permissions"]
    return []
