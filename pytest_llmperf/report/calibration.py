"""A calibration as text: noise, false alarms, detectable slowdowns, and time needed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import change_words, count, percent, plural
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.report.cells import table_or_lines
from pytest_llmperf.text import printable, wrap_node_id, wrap_words
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.calibration.outcome import (
        Calibration,
        CheckCalibration,
        Rate,
        StallCalibration,
    )


def render_calibration(calibration: Calibration, width: int = 80) -> list[str]:
    """Draw a calibration for a terminal ``width`` columns wide; one string per line."""
    lines = _headline(calibration, width)
    checks = calibration.checks
    nodeids = [check.nodeid for check in checks] + [stall.nodeid for stall in calibration.stalls]
    for nodeid in dict.fromkeys(nodeids):
        lines += ["", *wrap_node_id(nodeid, width)]
        rows = [_row(check, calibration) for check in checks if check.nodeid == nodeid]
        lines += _drawn(rows, width, calibration) if rows else []
        lines += _holds([check for check in checks if check.nodeid == nodeid], width)
        for stall in calibration.stalls:
            if stall.nodeid == nodeid:
                lines += wrap_words(_stall(stall), width, first="  ", indent="    ")
    return [*lines, "", *_legend(calibration, width)] if calibration.alarms.of else lines


def _headline(calibration: Calibration, width: int) -> list[str]:
    fit = calibration.alarms.of
    kind = f"planted {calibration.plant}" if calibration.plant else "A/A: two sides that are alike"
    lines = wrap_words(f"{kind}; {count(fit, 'session')} judged", width)
    if calibration.unfit:
        left_out = count(calibration.unfit, "session")
        because = printable(" ".join(calibration.unfit_because.split()))
        lines += wrap_words(f"{left_out} left out, the last because of {because}", width)
    if not fit:
        return lines
    low, high = calibration.alarms.interval
    label = "sessions caught it" if calibration.plant else "sessions with a false alarm"
    rate = f"{label}: {calibration.alarms.count} of {fit}, 95% interval {low:.1%} to {high:.1%}"
    if not calibration.plant:
        rate += f"; declared rate {percent(calibration.alpha)}"
    shortest, middle, longest = calibration.seconds
    fewest, usual, largest = calibration.pairs
    lines += wrap_words(rate, width)
    elsewhere = calibration.false_alarms_elsewhere
    if elsewhere is not None:
        low, high = elsewhere.interval
        lines += wrap_words(
            "sessions with a false alarm in checks that do not include decode (first token, "
            f"prefill): {elsewhere.count} of {fit}, 95% interval {low:.1%} to {high:.1%}; "
            f"declared rate {percent(calibration.alpha)}",
            width,
        )
    lines += wrap_words(
        f"a session took {format_duration(middle)} ({format_duration(shortest)} to "
        f"{format_duration(longest)}), "
        f"a test {usual:.1f} pairs of {plural(calibration.unit)} ({fewest} to {largest})",
        width,
    )
    return lines


def _holds(checks: Sequence[CheckCalibration], width: int) -> list[str]:
    """List the smallest tolerance that holds in sessions of each calibrated length."""
    lines: list[str] = []
    for seconds in checks[0].holds if checks else ():
        tolerances = ", ".join(
            f"{get_metric(check.metric).label} "
            + ("none" if check.holds[seconds] is None else percent(check.holds[seconds] or 0.0))
            for check in checks
        )
        text = f"smallest tolerance in {format_duration(seconds)}: {tolerances}"
        lines += wrap_words(text, width, first="  ", indent="    ")
    return lines


def _row(check: CheckCalibration, calibration: Calibration) -> tuple[str, ...]:
    noise = check.noise
    outcome = check.regressed if calibration.plant else check.passed
    cells = [
        get_metric(check.metric).label,
        _optional(noise.within),
        f"{noise.between:.2%}",
        _optional(noise.runs),
        _optional(noise.sessions, f" ({noise.session_count})"),
        _catches(check),
        _rate(outcome),
    ]
    if calibration.plant:
        metric = get_metric(check.metric)
        cells.append("-" if check.effect is None else change_words(metric, check.effect))
    return tuple(cells)


def _catches(check: CheckCalibration) -> str:
    if math.isinf(check.mde):
        return "never"
    groups = " groups" if check.row_size > 1 else ""
    return f"{check.mde:.1%} in {check.rows}{groups}"


def _stall(stall: StallCalibration) -> str:
    return (
        f"{get_metric(stall.metric).label}: {stall.candidate:.1%} of the candidate's iterations, "
        f"{stall.base:.1%} of the base's; called {_rate(stall.regressed)}, "
        f"passed {_rate(stall.passed)}"
    )


def _optional(value: float | None, suffix: str = "") -> str:
    return "-" if value is None else f"{value:.2%}{suffix}"


def _rate(rate: Rate) -> str:
    return f"{rate.count}/{rate.of}"


def _drawn(rows: Sequence[tuple[str, ...]], width: int, calibration: Calibration) -> list[str]:
    header: tuple[str, ...] = (
        "metric",
        "iteration",
        calibration.unit,
        "run",
        "session",
        "catches",
        "called" if calibration.plant else "passed",
    )
    if calibration.plant:
        header += ("found",)
    return table_or_lines(header, rows, width)


def _legend(calibration: Calibration, width: int) -> list[str]:
    outcome = (
        "called: sessions in which the check was regressed; found: the median slowdown measured"
        if calibration.plant
        else "passed: sessions that passed the check"
    )
    lines = [
        f"noise, as standard deviations: between the iterations of a {calibration.unit}, the "
        f"{plural(calibration.unit)} of a session, one session and the next here (run), and "
        "sessions recorded on other days (session, with how many there are)",
        "catches: the smallest slowdown called in nine of ten sessions, in so many pairs: those "
        "that perf.budget and perf.max_pairs allow (a percentile: groups of pairs)",
        outcome,
        "smallest tolerance: at this tolerance, nine of ten sessions of that length pass an "
        "unchanged test and call a slowdown of 1.25 times the tolerance",
    ]
    return [line for text in lines for line in wrap_words(text, width)]
