"""Tolerances that stored calibrations give to checks: ``tolerance: auto``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pytest_llmperf.stored_json import Number, Stored, expect
from pytest_llmperf.units import DEFAULT_TOLERANCE

if TYPE_CHECKING:
    from pytest_llmperf.baselines.calibrations import StoredCalibration

#: Smallest tolerance in use: the gate's error rates were not simulated for smaller ones.
MIN_TOLERANCE = 0.02

_Share = Annotated[Number, expect("a number above 0 and below 1", lambda share: 0 < share < 1)]
#: Length of a session in seconds, as text -> smallest tolerance that it holds, or None.
Holds = Annotated[
    Mapping[str, _Share | None],
    expect("lengths of sessions in seconds as keys", lambda holds: all(map(_is_length, holds))),
]


def _is_length(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


@dataclass(frozen=True)
class CalibratedTolerance(Stored):
    """The tolerance that a calibration gives to a check.

    Attributes:
        tolerance: for comparing two sides by pairs, a fraction.
        holds: the smallest tolerance that the calibration's sessions of ``seconds`` hold; None
            if they hold none, and ``tolerance`` is the default.
        seconds: the length of those sessions.
        calibration: the calibration's file, relative to the machine's folder.
        recorded: time of the calibration, UTC.
    """

    tolerance: _Share
    holds: _Share | None
    seconds: Number
    calibration: str
    recorded: str

    @property
    def against_stored(self) -> float:
        """The tolerance of a comparison with stored sessions.

        A calibration measures pairs. Stored sessions also differ by what changed between them,
        and even ten sessions that are alike hold no tolerance far below the default.
        """
        return max(self.tolerance, DEFAULT_TOLERANCE)


def calibrated_tolerances(
    calibrations: Sequence[StoredCalibration],
    nodeid: str,
    workload: str,
    seconds: float,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, CalibratedTolerance]:
    """Return the tolerance of each of a test's metrics that was calibrated.

    Args:
        calibrations: A/A calibrations of this machine, model and settings, oldest first; for
            each metric the newest that has it is used.
        nodeid: the test.
        workload: hash of its workload; figures of other workloads are ignored.
        seconds: how long the test may be measured.
        settings: of the test's cell, if it is in a sweep; figures of other cells are ignored.
    """
    tolerances: dict[str, CalibratedTolerance] = {}
    for calibration in calibrations:
        # All tests of a calibration share the time of its sessions.
        allowed = seconds * len({check.nodeid for check in calibration.checks})
        for check in calibration.checks_of(nodeid, workload, settings or {}):
            if check.holds:
                length, holds = _figure(check.holds, allowed)
                tolerances[check.metric] = CalibratedTolerance(
                    DEFAULT_TOLERANCE if holds is None else _readable(holds),
                    holds,
                    length,
                    calibration.source,
                    calibration.recorded,
                )
    return tolerances


def _figure(holds: Mapping[str, float | None], allowed: float) -> tuple[float, float | None]:
    """Return the longest allowed session (or else the shortest), and the tolerance it holds."""
    known = sorted((float(text), held) for text, held in holds.items())
    fitting = [session for session in known if session[0] <= allowed]
    return fitting[-1] if fitting else known[0]


def _readable(share: float) -> float:
    """Round up to a half percent, at least ``MIN_TOLERANCE``."""
    return max(MIN_TOLERANCE, math.ceil(share * 200 - 1e-6) / 200)
