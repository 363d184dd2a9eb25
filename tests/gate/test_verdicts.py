"""Every outcome of the gate for one metric of one test."""

from __future__ import annotations

import pytest
from gate_evidence import baseline, evidence

from pytest_llmperf.gate.check import BaselineView, Evidence
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import VerdictKind

K = VerdictKind


def test_slower_beyond_the_tolerance_is_regressed() -> None:
    verdict = judge(evidence(1.06, 1.06, 1.06, baseline=baseline((1.0, 1.0, 1.0))))
    assert verdict.kind is K.REGRESSED
    assert verdict.change == pytest.approx(0.06)
    assert verdict.explanation == (
        "6.0% slower than the baseline: 1.06 s, was 1.00 s over 1 session; tolerance 5%"
    )


def test_slower_within_the_tolerance_passes() -> None:
    verdict = judge(evidence(1.04, 1.04, 1.04, baseline=baseline((1.0, 1.0, 1.0))))
    assert verdict.kind is K.PASS


def test_faster_beyond_the_tolerance_is_improved() -> None:
    verdict = judge(evidence(0.9, 0.9, 0.9, baseline=baseline((1.0, 1.0, 1.0))))
    assert verdict.kind is K.IMPROVED
    assert "10.0% faster than the baseline" in verdict.explanation


def test_a_lower_rate_is_slower() -> None:
    view = baseline((100.0, 100.0, 100.0))
    verdict = judge(evidence(80.0, 80.0, 80.0, metric="tokens_per_sec", baseline=view))
    assert verdict.kind is K.REGRESSED
    assert verdict.change == pytest.approx(0.25)


def test_a_higher_rate_is_faster() -> None:
    view = baseline((100.0, 100.0, 100.0))
    verdict = judge(evidence(120.0, 120.0, 120.0, metric="tokens_per_sec", baseline=view))
    assert verdict.kind is K.IMPROVED


def test_the_baseline_is_the_median_of_its_sessions() -> None:
    view = baseline((1.0, 1.0, 1.0), (1.1, 1.1, 1.1), (9.0, 9.0, 9.0))
    verdict = judge(evidence(1.1, 1.1, 1.1, baseline=view))
    assert verdict.kind is K.PASS
    assert verdict.baseline is not None
    assert verdict.baseline.value == 1.1
    assert verdict.baseline_sessions == 3


def test_one_slow_process_of_three_does_not_decide() -> None:
    verdict = judge(evidence(1.0, 4.0, 1.0, baseline=baseline((1.0, 1.0, 1.0))))
    assert verdict.kind is K.PASS


def test_a_rate_below_its_minimum_is_missed() -> None:
    verdict = judge(evidence(50.0, 50.0, 50.0, metric="tokens_per_sec", limit=60.0))
    assert verdict.kind is K.MISSED
    assert verdict.explanation == ("target missed by 20%: 50.0 tok/s, must be at least 60 tok/s")


def test_a_wide_miss_is_told_as_a_factor() -> None:
    verdict = judge(evidence(6.56, 6.56, 6.56, metric="tokens_per_sec", limit=60.0))
    assert verdict.explanation == (
        "target missed by a factor of 9.15: 6.56 tok/s, must be at least 60 tok/s"
    )


def test_a_time_above_its_maximum_is_missed() -> None:
    verdict = judge(evidence(0.55, 0.55, 0.55, metric="first_token", limit=0.5))
    assert verdict.kind is K.MISSED
    assert verdict.explanation == "target missed by 10%: 550 ms, must be at most 500 ms"


def test_exactly_the_limit_meets_it() -> None:
    view = baseline((0.5, 0.5, 0.5))
    assert judge(evidence(0.5, 0.5, 0.5, limit=0.5, baseline=view)).kind is K.PASS


def test_a_near_miss_is_printed_with_enough_digits_to_see_it() -> None:
    verdict = judge(evidence(0.50003, 0.50003, 0.50003, limit=0.5))
    assert verdict.explanation == "target missed by 0.006%: 500.03 ms, must be at most 500 ms"


def test_a_maximum_of_zero_is_missed_without_a_share() -> None:
    verdict = judge(evidence(0.5, 0.5, 0.5, limit=0.0))
    assert verdict.explanation == "target missed: 500 ms, must be at most 0 s"


def test_without_a_baseline_a_met_target_is_no_baseline() -> None:
    verdict = judge(evidence(0.4, 0.4, 0.4, limit=0.5, baseline=BaselineView("missing")))
    assert verdict.kind is K.NO_BASELINE
    assert verdict.summary is not None


def test_no_baseline_says_why_in_the_stores_words() -> None:
    view = BaselineView("missing", detail="nearest machine: xeon-4c_cpu (4 cores, here 2)")
    assert judge(evidence(0.4, 0.4, 0.4, baseline=view)).explanation == view.detail


def test_a_baseline_without_sessions_is_no_baseline() -> None:
    assert judge(evidence(1.0, 1.0, 1.0, baseline=BaselineView("ok"))).kind is K.NO_BASELINE


def test_a_changed_workload_is_never_compared() -> None:
    view = BaselineView("workload changed", (((1.0,), (1.0,), (1.0,)),), detail="64 out, was 32")
    verdict = judge(evidence(9.0, 9.0, 9.0, baseline=view))
    assert verdict.kind is K.WORKLOAD_CHANGED
    assert verdict.change is None
    assert verdict.explanation == "64 out, was 32"


def test_an_unfit_machine_is_invalid_and_nothing_is_claimed_about_speed() -> None:
    verdict = judge(
        evidence(
            9.0,
            9.0,
            9.0,
            limit=5.0,
            baseline=baseline((1.0, 1.0, 1.0)),
            invalid=("stress used 1.9 of 2 cores", "the machine swapped"),
        )
    )
    assert verdict.kind is K.INVALID
    assert verdict.explanation == "stress used 1.9 of 2 cores; the machine swapped"
    assert verdict.notes == ()


def test_an_error_is_told_as_it_is() -> None:
    verdict = judge(evidence(error="the engine died of SIGSEGV"))
    assert verdict.kind is K.ERROR
    assert verdict.explanation == "the engine died of SIGSEGV"


def test_a_metric_the_workload_does_not_define_is_an_error() -> None:
    verdict = judge(evidence(metric="tokens_per_sec"))
    assert verdict.kind is K.ERROR
    assert "tokens_per_sec has no value for this workload; it is (n-1)" in verdict.explanation


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_a_sample_that_is_no_measurement_is_an_error(bad: float) -> None:
    verdict = judge(evidence(1.0, bad, 1.0))
    assert verdict.kind is K.ERROR
    assert "process 2 measured" in verdict.explanation


def test_a_budget_that_ran_out_is_inconclusive_and_says_what_would_help() -> None:
    verdict = judge(
        evidence(1.0, baseline=baseline((1.0, 1.0)), budget_reached=True, budget_s=600.0)
    )
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.explanation == (
        "1 of 3 processes measured within the 10 min budget; raise perf.budget"
    )


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_too_few_processes_claim_neither_a_regression_nor_a_pass(value: float) -> None:
    verdict = judge(
        evidence(value, limit=1.0, baseline=baseline((1.0, 1.0, 1.0)), budget_reached=True)
    )
    assert verdict.kind is K.INCONCLUSIVE
    assert any(note.startswith("so far ") for note in verdict.notes)


def test_a_budget_that_ran_out_before_the_first_process_is_inconclusive() -> None:
    verdict = judge(evidence(budget_reached=True))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.explanation.startswith("0 of 3 processes measured")


def test_processes_lost_for_other_reasons_are_inconclusive_too() -> None:
    verdict = judge(evidence(1.0, 1.0))
    assert verdict.kind is K.INCONCLUSIVE
    assert "2 of 3 processes measured; the others ended early" in verdict.explanation


def test_regressed_and_missed_are_both_visible() -> None:
    verdict = judge(evidence(9.0, 9.0, 9.0, limit=5.0, baseline=baseline((1.0, 1.0, 1.0))))
    assert verdict.kind is K.REGRESSED
    assert verdict.notes == ("also missed: target missed by 80%: 9.00 s, must be at most 5 s",)
    assert [reason.kind for reason in verdict.reasons] == [K.REGRESSED, K.MISSED]


def test_improved_and_still_missed_is_missed() -> None:
    verdict = judge(evidence(6.0, 6.0, 6.0, limit=5.0, baseline=baseline((9.0, 9.0, 9.0))))
    assert verdict.kind is K.MISSED
    assert verdict.notes[0].startswith("also improved: 33.3% faster")


def test_a_strategy_of_ones_own_can_be_judged_by() -> None:
    class Strict:
        name = "strict"

        def judge(self, evidence: Evidence) -> None:
            return None

    with pytest.raises(ValueError, match="no strategy judges end_to_end"):
        judge(evidence(1.0, 1.0, 1.0), [Strict()])
