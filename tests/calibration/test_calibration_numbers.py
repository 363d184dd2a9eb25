"""The figures that a calibration derives from its sessions."""

from __future__ import annotations

import math
import random

import pytest

from pytest_llmperf.calibration.outcome import Calibration, CheckRun, Rate, SessionRun, calibrate
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.report.calibration import render_calibration

NODEID = "tests/perf/test_chat.py::test_short"
KEY = (NODEID, "end_to_end")
METRICS_HERE = ("end_to_end", "tokens_per_sec", "first_token", "inter_token_p95", "stall_rate")


def check(
    kind: VerdictKind = VerdictKind.PASS,
    *,
    between: float = 0.01,
    within: float = 0.005,
    level: float = 1.0,
    seed: int = 0,
    pairs: int = 30,
    metric: str = KEY[1],
    row_size: int = 1,
) -> CheckRun:
    """Return a check whose two sides have the same noise."""
    rng = random.Random(seed)

    def side() -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(level * math.exp(middle + rng.gauss(0, within)) for _ in range(3))
            for middle in (rng.gauss(0, between) for _ in range(pairs))
        )

    return CheckRun(NODEID, metric, kind, 0.001, side(), side(), row_size)


def stall_rate(stalled: int, kind: VerdictKind = VerdictKind.PASS) -> CheckRun:
    """Return ten pairs of ten iterations, with ``stalled`` of the candidate's stalled in each."""
    candidate = (1.0,) * stalled + (0.0,) * (10 - stalled)
    return CheckRun(NODEID, "stall_rate", kind, None, (candidate,) * 10, ((0.0,) * 10,) * 10)


def session(*checks: CheckRun, seconds: float = 50.0, because: str = "") -> SessionRun:
    return SessionRun(seconds, checks, {NODEID: 5}, unfit_because=because)


def calibration(*sessions: SessionRun, **changes: object) -> Calibration:
    return calibrate(
        sessions,
        **{
            "tolerances": dict.fromkeys(((NODEID, name) for name in METRICS_HERE), 0.05),
            "pairs_in_budget": 12,
            "alpha": 0.01,
            **changes,
        },  # type: ignore[arg-type]
    )


def test_noise_within_and_between_processes_is_told_apart() -> None:
    noise = calibration(session(check(between=0.02, within=0.002, pairs=400))).checks[0].noise
    assert noise.within == pytest.approx(0.002, rel=0.2)
    assert noise.between == pytest.approx(0.02, rel=0.2)


def test_a_pair_differs_by_the_noise_of_both_its_processes() -> None:
    noise = calibration(session(check(between=0.02, within=0.0, pairs=400))).checks[0].noise
    assert noise.pair == pytest.approx(0.02 * math.sqrt(2), rel=0.2)


def test_one_stalled_process_does_not_make_a_noisy_machine() -> None:
    quiet = check(pairs=40)
    stalled = CheckRun(*KEY, quiet.kind, 0.0, quiet.candidate, (*quiet.base[:-1], (9.0, 9.0, 9.0)))
    before, after = (calibration(session(run)).checks[0].noise for run in (quiet, stalled))
    assert after.between == pytest.approx(before.between, rel=0.25)


def test_levels_of_one_session_and_the_next_are_compared() -> None:
    runs = [session(check(level=level, between=0.0, within=0.0)) for level in (1.0, 1.02, 0.98)]
    assert calibration(*runs).checks[0].noise.runs == pytest.approx(0.02, rel=0.02)


def test_sessions_of_other_days_count_with_this_one() -> None:
    runs = session(check(level=1.0, between=0.0, within=0.0))
    noise = calibration(runs, earlier={KEY: [1.05]}).checks[0].noise
    assert noise.session_count == 2
    assert noise.sessions == pytest.approx(math.log(1.05) / math.sqrt(2), rel=0.01)


def test_without_an_earlier_session_the_noise_between_days_is_unknown() -> None:
    assert calibration(session(check())).checks[0].noise.sessions is None


def test_a_session_with_any_called_check_is_a_false_alarm() -> None:
    result = calibration(session(check()), session(check(VerdictKind.REGRESSED)))
    assert result.alarms == Rate(1, 2)


def test_a_rate_has_its_exact_binomial_interval() -> None:
    low, high = Rate(0, 20).interval
    # 1 - (1 - high)^20 = 97.5%
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_a_session_on_an_unfit_machine_is_counted_and_left_out() -> None:
    result = calibration(session(check()), session(check(VerdictKind.INVALID)))
    assert (result.alarms.of, result.unfit) == (1, 1)
    assert result.checks[0].passed == Rate(1, 1)


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
    result = calibration(session(check(VerdictKind.ERROR)))
    assert result.checks == ()
    assert result.seconds == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("plant", ["", "a decode slower by 5%"])
def test_the_table_fits_its_terminal(width: int, plant: str) -> None:
    lines = render_calibration(
        calibration(session(check()), session(check()), plant=plant, earlier={KEY: [1.01]}), width
    )
    assert max(map(len, lines)) <= width


def test_a_false_alarm_rate_is_printed_with_its_interval_and_the_promise() -> None:
    text = " ".join(render_calibration(calibration(*[session(check())] * 20), 300))
    assert "0 of 20, 95% interval 0.0% to 16.8%; declared rate 1%" in text


def test_a_planted_slowdown_is_reported_as_caught() -> None:
    runs = [session(check(VerdictKind.REGRESSED))] * 3
    text = " ".join(render_calibration(calibration(*runs, plant="a decode slower by 5%"), 300))
    assert "sessions caught it: 3 of 3" in text


def percentile(pairs_in_budget: int) -> Calibration:
    """Return the calibration of a metric that is judged in groups of five pairs."""
    run = check(metric="inter_token_p95", row_size=5, between=0.003)
    return calibration(session(run), pairs_in_budget=pairs_in_budget)


def test_a_percentile_is_planned_in_groups_of_pairs() -> None:
    (grouped,) = percentile(40).checks
    assert (grouped.rows, grouped.row_size) == (8, 5)
    single = calibration(session(check(between=0.003)), pairs_in_budget=8).checks[0]
    assert grouped.mde == pytest.approx(single.mde)
    assert "in 8 groups" in " ".join(render_calibration(percentile(40), 300))


def test_a_percentile_catches_nothing_in_fewer_than_eight_groups() -> None:
    assert percentile(40).checks[0].mde < math.inf
    assert percentile(39).checks[0].mde == math.inf
    assert "never" in " ".join(render_calibration(percentile(39), 300))


def test_nothing_is_caught_in_fewer_pairs_than_can_agree() -> None:
    few, enough = (
        calibration(session(check(between=0.001)), pairs_in_budget=n).checks[0].mde for n in (5, 6)
    )
    assert (few, enough < math.inf) == (math.inf, True)


def test_each_check_keeps_its_tolerance() -> None:
    result = calibration(session(check()), tolerances={KEY: 0.2})
    assert result.checks[0].tolerance == 0.2


def test_a_stall_rate_is_listed_with_its_rate_and_how_often_it_passed() -> None:
    result = calibration(session(stall_rate(2)), session(stall_rate(4, VerdictKind.REGRESSED)))
    (stall,) = result.stalls
    assert stall.candidate == pytest.approx(0.3)
    assert stall.base == 0.0
    assert (stall.regressed, stall.passed) == (Rate(1, 2), Rate(1, 2))
    text = " ".join(render_calibration(result, 300))
    assert "stall rate: 30.0% of the candidate's iterations, 0.0% of the base's" in text
    assert "called 1/2, passed 1/2" in text


@pytest.mark.parametrize("name", ["end_to_end", "tokens_per_sec", "inter_token_p95"])
def test_a_planted_slowdown_is_caught_by_what_decode_is_part_of(name: str) -> None:
    result = calibration(session(check(VerdictKind.REGRESSED, metric=name)), plant="slower by 5%")
    assert (result.alarms, result.false_alarms_elsewhere) == (Rate(1, 1), None)


def test_a_planted_slowdown_is_caught_by_the_stall_rate() -> None:
    result = calibration(session(stall_rate(4, VerdictKind.REGRESSED)), plant="slower by 5%")
    assert result.alarms == Rate(1, 1)


def test_a_first_token_called_is_a_false_alarm_of_a_planted_calibration() -> None:
    first = check(VerdictKind.REGRESSED, metric="first_token")
    result = calibration(session(check(), first), plant="a decode slower by 5%")
    assert (result.alarms, result.false_alarms_elsewhere) == (Rate(0, 1), Rate(1, 1))
    text = " ".join(render_calibration(result, 300))
    assert "sessions caught it: 0 of 1" in text
    assert "false alarm in checks that do not include decode (first token, prefill): 1 of 1" in text


def test_a_first_token_called_is_a_false_alarm_of_an_unchanged_calibration() -> None:
    first = check(VerdictKind.REGRESSED, metric="first_token")
    result = calibration(session(check(), first))
    assert (result.alarms, result.false_alarms_elsewhere) == (Rate(1, 1), None)


def test_why_sessions_were_left_out_is_said_once() -> None:
    busy = [session(check(VerdictKind.INVALID), because=f"{NODEID}: a busy core")] * 3
    text = " ".join(render_calibration(calibration(session(check()), *busy), 300))
    assert f"3 sessions left out, the last because of {NODEID}: a busy core" in text
    assert text.count("a busy core") == 1


def test_with_no_fit_session_only_the_reason_is_printed() -> None:
    only = session(check(VerdictKind.INVALID), because=f"{NODEID}: a busy core")
    lines = render_calibration(calibration(only), 300)
    assert lines == [
        "A/A: two sides that are alike; 0 sessions judged",
        f"1 session left out, the last because of {NODEID}: a busy core",
    ]


def test_the_smallest_tolerance_of_a_minute_and_of_five_is_said() -> None:
    # Ten pairs in 50 s are 12 pairs in one minute and 60 in five.
    run = SessionRun(50.0, (check(between=0.004, within=0.0001),), {NODEID: 10})
    result = calibration(run)

    minute, five = result.checks[0].holds.values()
    assert list(result.checks[0].holds) == [60.0, 300.0]
    assert minute is not None
    assert five is not None
    assert 0.005 <= five < minute <= 0.03
    text = "\n".join(render_calibration(result))
    assert "  smallest tolerance in 1 min: end to end 1" in text
    assert "  smallest tolerance in 5 min: end to end " in text
    # Two pairs in a minute can't call anything.
    slow = SessionRun(50.0, (check(between=0.004),), {NODEID: 2})
    assert calibration(slow).checks[0].holds[60.0] is None
    assert "in 1 min: end to end none" in "\n".join(render_calibration(calibration(slow)))
    # A session measures at most ``max_pairs`` pairs, however long it is.
    minute, five = calibration(run, max_pairs=12).checks[0].holds.values()
    assert minute == five == result.checks[0].holds[60.0]
