"""What a calibration makes of its sessions."""

from __future__ import annotations

import math
import random

import pytest

from pytest_llmperf.gate.calibration import Calibration, CheckRun, Rate, SessionRun, calibrate
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.report.calibration import render_calibration

NODEID = "tests/perf/test_chat.py::test_short"
KEY = (NODEID, "end_to_end")


def check(
    kind: VerdictKind = VerdictKind.PASS,
    *,
    between: float = 0.01,
    within: float = 0.005,
    level: float = 1.0,
    seed: int = 0,
    pairs: int = 30,
) -> CheckRun:
    """A check whose two arms have the same noise."""
    rng = random.Random(seed)

    def arm() -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(level * math.exp(middle + rng.gauss(0, within)) for _ in range(3))
            for middle in (rng.gauss(0, between) for _ in range(pairs))
        )

    return CheckRun(*KEY, kind, 0.001, arm(), arm())


def session(*checks: CheckRun, seconds: float = 50.0) -> SessionRun:
    return SessionRun(seconds, checks, {NODEID: 5})


def calibration(*sessions: SessionRun, **changes: object) -> Calibration:
    return calibrate(
        sessions,
        **{
            "tolerances": {KEY: 0.05},
            "pairs_in_budget": 12,
            "alpha": 0.01,
            **changes,
        },  # type: ignore[arg-type]
    )


def test_noise_within_and_between_processes_is_told_apart() -> None:
    found = calibration(session(check(between=0.02, within=0.002, pairs=400))).checks[0].noise
    assert found.within == pytest.approx(0.002, rel=0.2)
    assert found.between == pytest.approx(0.02, rel=0.2)


def test_a_pair_differs_by_the_noise_of_both_its_processes() -> None:
    found = calibration(session(check(between=0.02, within=0.0, pairs=400))).checks[0].noise
    assert found.pair == pytest.approx(0.02 * math.sqrt(2), rel=0.2)


def test_one_stalled_process_does_not_make_a_noisy_machine() -> None:
    quiet = check(pairs=40)
    stalled = CheckRun(*KEY, quiet.kind, 0.0, quiet.candidate, (*quiet.base[:-1], (9.0, 9.0, 9.0)))
    before, after = (calibration(session(one)).checks[0].noise for one in (quiet, stalled))
    assert after.between == pytest.approx(before.between, rel=0.25)


def test_levels_of_one_session_and_the_next_are_compared() -> None:
    runs = [session(check(level=level, between=0.0, within=0.0)) for level in (1.0, 1.02, 0.98)]
    assert calibration(*runs).checks[0].noise.runs == pytest.approx(0.02, rel=0.02)


def test_sessions_of_other_days_count_with_this_one() -> None:
    runs = session(check(level=1.0, between=0.0, within=0.0))
    found = calibration(runs, earlier={KEY: [1.05]}).checks[0].noise
    assert found.session_count == 2
    assert found.sessions == pytest.approx(math.log(1.05) / math.sqrt(2), rel=0.01)


def test_without_an_earlier_session_the_noise_between_days_is_unknown() -> None:
    assert calibration(session(check())).checks[0].noise.sessions is None


def test_a_session_with_any_called_check_is_a_false_alarm() -> None:
    found = calibration(session(check()), session(check(VerdictKind.REGRESSED)))
    assert found.alarms == Rate(1, 2)


def test_a_rate_has_its_exact_binomial_interval() -> None:
    low, high = Rate(0, 20).interval
    # 1 - (1 - high)^20 = 97.5%
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))


def test_a_session_on_an_unfit_machine_is_counted_and_left_out() -> None:
    found = calibration(session(check()), session(check(VerdictKind.INVALID)))
    assert (found.alarms.of, found.unfit) == (1, 1)
    assert found.checks[0].passed == Rate(1, 1)


def test_noise_decides_what_can_be_caught() -> None:
    quiet, loud = (
        calibration(session(check(between=noise))).checks[0].mde for noise in (0.003, 0.05)
    )
    assert quiet < 0.07 < loud


def test_more_pairs_catch_less() -> None:
    few, many = (
        calibration(session(check(between=0.03)), pairs_in_budget=n).checks[0].mde for n in (6, 40)
    )
    assert many < few


def test_with_no_fit_session_nothing_is_claimed() -> None:
    found = calibration(session(check(VerdictKind.ERROR)))
    assert found.checks == ()
    assert found.seconds == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("plant", ["", "a decode slower by 5%"])
def test_the_table_fits_its_terminal(width: int, plant: str) -> None:
    lines = render_calibration(
        calibration(session(check()), session(check()), plant=plant, earlier={KEY: [1.01]}), width
    )
    assert max(map(len, lines)) <= width


def test_a_false_alarm_rate_is_printed_with_its_interval_and_the_promise() -> None:
    text = " ".join(render_calibration(calibration(*[session(check())] * 20), 300))
    assert "0 of 20, 95% interval 0.0% to 16.8%; 1% is promised" in text


def test_a_planted_slowdown_is_reported_as_caught() -> None:
    runs = [session(check(VerdictKind.REGRESSED))] * 3
    text = " ".join(render_calibration(calibration(*runs, plant="a decode slower by 5%"), 300))
    assert "sessions caught it: 3 of 3" in text
