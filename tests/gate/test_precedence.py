"""Which verdict wins, which verdicts fail a test, and what counts as one check."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from gate_evidence import baseline, evidence, paired, quiet_differences

from pytest_llmperf.baselines.samples import BaselineSamples
from pytest_llmperf.gate.combine import count_kinds, judge, verdict_per_quantity, worst
from pytest_llmperf.gate.exit_codes import session_exit_code
from pytest_llmperf.gate.verdict import (
    FailPolicy,
    Reason,
    Verdict,
    VerdictKind,
    failing_kinds,
    fails,
    verdict_fails,
)

K = VerdictKind
WORDS = [
    "error",
    "invalid",
    "regressed",
    "missed",
    "inconclusive",
    "workload changed",
    "no baseline",
    "pass",
    "improved",
]


def of_kind(kind: VerdictKind, metric: str = "end_to_end", *, gated: bool = True) -> Verdict:
    """Return a verdict of this kind, for tests that only care about kinds."""
    verdict = judge(evidence(1.0, 1.0, 1.0, metric=metric, gated=gated))
    return replace(verdict, kind=kind, reasons=(Reason(kind, "made up", "", ""),))


def test_the_kinds_are_the_documented_words_in_order() -> None:
    assert [kind.value for kind in K] == WORDS


@pytest.mark.parametrize(("first", "second"), list(combinations(K, 2)))
def test_the_earlier_kind_wins_in_either_order(first: VerdictKind, second: VerdictKind) -> None:
    a, b = of_kind(first), of_kind(second)
    assert worst([a, b]) is a
    assert worst([b, a]) is a


@pytest.mark.parametrize(
    ("kind", "plain", "required", "strict"),
    [
        (K.ERROR, True, True, True),
        (K.INVALID, True, True, True),
        (K.REGRESSED, True, True, True),
        (K.MISSED, True, True, True),
        (K.INCONCLUSIVE, False, False, True),
        (K.WORKLOAD_CHANGED, False, True, False),
        (K.NO_BASELINE, False, True, False),
        (K.PASS, False, False, False),
        (K.IMPROVED, False, False, False),
    ],
)
def test_what_fails_a_test(kind: VerdictKind, plain: bool, required: bool, strict: bool) -> None:
    assert fails(kind) is plain
    assert fails(kind, FailPolicy(require_baseline=True)) is required
    assert fails(kind, FailPolicy(strict=True)) is strict


def test_metrics_of_one_quantity_count_as_one_check_the_worse_of_them() -> None:
    rate = of_kind(K.PASS, "tokens_per_sec")
    period = of_kind(K.REGRESSED, "time_per_output_token")
    first = of_kind(K.PASS, "first_token")
    assert verdict_per_quantity([rate, period, first]) == [period, first]


def test_the_same_quantity_of_two_tests_is_two_checks() -> None:
    rate = of_kind(K.PASS, "tokens_per_sec")
    assert count_kinds([[rate], [rate]]) == {K.PASS: 2}


def test_counts_come_in_the_order_of_precedence() -> None:
    verdicts = [of_kind(K.PASS, "first_token"), of_kind(K.ERROR, "end_to_end")]
    assert list(count_kinds([verdicts])) == [K.ERROR, K.PASS]


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        ([K.INCONCLUSIVE], 0),
        ([K.PASS, K.IMPROVED, K.NO_BASELINE, K.WORKLOAD_CHANGED], 0),
        ([K.PASS, K.REGRESSED], 1),
        ([K.MISSED], 1),
        ([K.ERROR], 1),
        ([K.PASS, K.INVALID], 10),
        ([K.INVALID, K.INCONCLUSIVE], 10),
        ([K.INVALID, K.REGRESSED], 1),
        ([K.INCONCLUSIVE, K.MISSED], 1),
    ],
)
def test_exit_codes(kinds: list[VerdictKind], code: int) -> None:
    assert session_exit_code(map(of_kind, kinds)) == code


@pytest.mark.parametrize(
    ("kinds", "code"),
    [([K.INCONCLUSIVE, K.PASS], 11), ([K.INVALID, K.INCONCLUSIVE], 10), ([K.PASS], 0)],
)
def test_exit_codes_of_a_strict_session(kinds: list[VerdictKind], code: int) -> None:
    assert session_exit_code(map(of_kind, kinds), FailPolicy(strict=True)) == code


def test_a_missing_baseline_fails_the_session_where_one_is_required() -> None:
    policy = FailPolicy(require_baseline=True)
    assert session_exit_code([of_kind(K.NO_BASELINE)], policy) == 1


def test_an_ordinary_failure_is_not_hidden_behind_an_invalid_machine() -> None:
    assert session_exit_code([of_kind(K.INVALID)], ordinary_failures=True) == 1


def test_metrics_that_are_shown_only_neither_count_nor_fail() -> None:
    shown = of_kind(K.REGRESSED, gated=False)
    assert session_exit_code([shown]) == 0
    assert verdict_per_quantity([shown]) == []


def test_exit_codes_stay_clear_of_pytests_own() -> None:
    codes = {session_exit_code([of_kind(kind)], FailPolicy(strict=True)) for kind in K}
    assert codes - {0, 1} == {10, 11}
    assert not (codes - {0, 1}) & {int(code) for code in pytest.ExitCode}


def test_a_verdict_keeps_what_every_strategy_said() -> None:
    view = baseline(*(1.0,) * 10)
    verdict = judge(evidence(1.0, 1.0, 1.0, limit=2.0, baseline=view))
    assert [reason.strategy for reason in verdict.reasons] == ["baseline", "target"]
    assert all(reason.proof is not None for reason in verdict.reasons)


def test_an_accepted_regression_fails_only_by_the_target_it_misses() -> None:
    accepting, view = FailPolicy(accepting=True), baseline(*(1.0,) * 10)
    slower = judge(evidence(*(1.3,) * 6, baseline=view))
    missed = judge(evidence(*(1.3,) * 6, limit=1.2, baseline=view))
    assert (verdict_fails(slower), verdict_fails(slower, accepting)) == (True, False)
    assert missed.kind is VerdictKind.REGRESSED
    assert failing_kinds(missed, accepting) == {K.MISSED}


def test_an_undecided_target_does_not_hide_a_required_baseline() -> None:
    undecided = evidence(1.0, 1.01, 0.99, limit=1.0, baseline=BaselineSamples("missing"))
    verdict = judge(undecided)
    assert verdict.kind is K.INCONCLUSIVE
    assert not verdict_fails(verdict)
    required = FailPolicy(require_baseline=True)
    assert failing_kinds(verdict, required) == {K.NO_BASELINE}
    assert session_exit_code([verdict], required) == 1


def test_what_lost_is_noted_unless_all_is_well() -> None:
    met = judge(paired(*quiet_differences(0.0), limit=9.0))
    missed = judge(paired(*quiet_differences(0.3), limit=1.0))
    assert met.notes == ()
    assert [note.partition(":")[0] for note in missed.notes] == ["also missed"]
