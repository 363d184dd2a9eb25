"""One false-alarm rate for all checks of a session."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from gate_evidence import QUIET, baseline, evidence, paired, quiet_differences

from pytest_llmperf.gate.check import Evidence
from pytest_llmperf.gate.combine import judge_session
from pytest_llmperf.gate.family import share_alarms
from pytest_llmperf.gate.verdict import VerdictKind

K = VerdictKind
#: Enough evidence for one check alone, not for one of sixty.
SLOW = tuple(math.log(1.06) + 3.0 * noise for noise in QUIET[:6])


def session(*checks: Evidence) -> list[Evidence]:
    """Return these checks, each as a different test's."""
    return [replace(check, nodeid=f"t.py::t{n}") for n, check in enumerate(checks)]


def shares(checks: list[Evidence], alpha: float = 0.01) -> list[float]:
    """Return each check's share of the false-alarm rate for its comparison."""
    return [check.comparison_alpha for check in share_alarms(checks, alpha)]


def test_m_checks_share_the_rate() -> None:
    assert shares(session(*[paired(*quiet_differences(0.0))] * 4)) == [pytest.approx(0.0025)] * 4


def test_a_check_that_is_called_raises_the_share_of_the_others() -> None:
    found = shares(session(paired(*quiet_differences(0.3)), *[paired(*quiet_differences(0.0))] * 3))
    assert found == [pytest.approx(0.0025), *[pytest.approx(0.01 / 3)] * 3]


def test_alone_it_is_called_among_many_it_is_not() -> None:
    alone = judge_session(session(paired(*SLOW)))
    among = judge_session(session(paired(*SLOW), *[paired(*quiet_differences(0.0, 6))] * 59))
    assert [v.kind for v in alone if v] == [K.REGRESSED]
    assert among[0] is not None
    assert among[0].kind is K.INCONCLUSIVE


def test_a_larger_rate_calls_more() -> None:
    checks = session(paired(*SLOW), *[paired(*quiet_differences(0.0, 6))] * 49)
    first = judge_session(checks, alpha=0.5)[0]
    assert first is not None
    assert first.kind is K.REGRESSED


def test_metrics_that_are_one_quantity_are_counted_once() -> None:
    both = [
        paired(*quiet_differences(0.0), metric="tokens_per_sec"),
        paired(*quiet_differences(0.0), metric="time_per_output_token"),
    ]
    assert shares(both) == [pytest.approx(0.01)] * 2
    assert shares(session(*both)) == [pytest.approx(0.005)] * 2


def test_metrics_that_are_shown_only_take_no_share() -> None:
    checks = session(paired(*quiet_differences(0.0)), paired(*quiet_differences(0.0), gated=False))
    assert shares(checks)[0] == pytest.approx(0.01)
    assert judge_session(checks)[1] is None


@pytest.mark.parametrize("void", [{"error": "it died"}, {"invalid": ("the machine swapped",)}])
def test_what_can_not_be_judged_is_counted_and_raises_no_share(void: dict[str, str]) -> None:
    # How many checks there are must not depend on how noisy the session was.
    for slower in (0.0, 0.3):
        checks = session(
            paired(*quiet_differences(slower), **void), *[paired(*quiet_differences(0.0))] * 2
        )
        assert shares(checks)[1:] == [pytest.approx(0.01 / 3)] * 2


def test_unusable_samples_of_one_check_do_not_stop_the_others() -> None:
    broken = evidence(1.0, math.nan, 1.0, limit=2.0, baseline=baseline(1.0))
    kinds = [v.kind for v in judge_session(session(broken, paired(*quiet_differences(0.0)))) if v]
    assert kinds == [K.ERROR, K.PASS]


def test_a_large_slowdown_below_what_is_called_raises_no_share() -> None:
    # Proven above negligible, yet smaller than 0.8 of the tolerance: it is not called.
    small = paired(*quiet_differences(math.log(1.03), 40))
    found = shares(session(small, *[paired(*quiet_differences(0.0))] * 3))
    assert found == [pytest.approx(0.0025)] * 4


def test_stored_baselines_and_pairs_share_within_their_own_kind() -> None:
    stored = [evidence(1.0, 1.0, 1.0, baseline=baseline(*(1.0,) * 5))] * 2
    assert shares(session(*stored)) == [pytest.approx(0.005)] * 2


def test_targets_are_a_family_of_their_own() -> None:
    targets = [evidence(1.0, 1.0, 1.0, limit=2.0, baseline=baseline(*(1.0,) * 5))] * 4
    checks = share_alarms(session(*targets, evidence(1.0, 1.0, 1.0, baseline=baseline(1.0))))
    assert [check.target_alpha for check in checks[:4]] == [pytest.approx(0.0025)] * 4
    assert [check.comparison_alpha for check in checks] == [pytest.approx(0.002)] * 5


def test_the_order_of_checks_does_not_matter() -> None:
    checks = session(*(paired(*quiet_differences(by, 5)) for by in (0.0, 0.06, 0.1, -0.02)))
    forward = judge_session(checks)
    backward = judge_session(checks[::-1])
    assert [v.kind for v in forward if v] == [v.kind for v in backward[::-1] if v]
