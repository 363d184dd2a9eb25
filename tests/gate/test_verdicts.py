"""What prevents a judgement whatever the numbers: errors, an unfit machine, too few samples."""

from __future__ import annotations

import pytest
from gate_evidence import GREY, baseline, evidence, paired, quiet_differences

from pytest_llmperf.baselines.samples import BaselineSamples
from pytest_llmperf.gate.check import Evidence, Pairs
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import VerdictKind

K = VerdictKind


def test_an_unfit_machine_is_invalid_and_nothing_is_claimed_about_speed() -> None:
    verdict = judge(
        evidence(
            *(9.0,) * 6,
            limit=5.0,
            baseline=baseline(*(1.0,) * 10),
            invalid=("stress used 1.9 of 2 cores", "the machine swapped"),
        )
    )
    assert verdict.kind is K.INVALID
    assert verdict.explanation == "stress used 1.9 of 2 cores; the machine swapped"
    assert verdict.notes == ()


def test_an_error_is_told_as_it_is_with_all_its_lines() -> None:
    verdict = judge(evidence(error="the engine died of SIGSEGV\nlast line of its log"))
    assert verdict.kind is K.ERROR
    assert verdict.explanation == "the engine died of SIGSEGV\nlast line of its log"


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
    verdict = judge(evidence(1.0, budget_reached=True, budget_seconds=600.0))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.explanation == (
        "1 of at least 3 processes measured within the 10 min budget; raise perf.budget"
    )


def test_pairs_are_counted_as_pairs() -> None:
    verdict = judge(paired(0.0, 0.0, budget_reached=True, budget_seconds=90.0))
    assert verdict.explanation == (
        "2 of at least 3 pairs measured within the 1 min 30 s budget; raise perf.budget"
    )


def test_half_a_pair_is_no_pair() -> None:
    lone = evidence(1.0, 1.0, 1.0, pairs=Pairs((), (), "other.yaml"), ended=False)
    verdict = judge(lone)
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.explanation.startswith("0 of at least 3 pairs measured")


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_too_few_processes_claim_neither_a_regression_nor_a_pass(value: float) -> None:
    view = baseline(*(1.0,) * 10)
    verdict = judge(evidence(value, limit=1.0, baseline=view, budget_reached=True))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.strategy == "validity"


def test_too_few_pairs_condemn_nothing_however_clear_they_look() -> None:
    verdict = judge(paired(*quiet_differences(1.0, 8), planned_processes=9, budget_reached=True))
    assert verdict.kind is K.INCONCLUSIVE


def test_a_budget_that_ran_out_before_the_first_process_is_inconclusive() -> None:
    verdict = judge(evidence(budget_reached=True))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.explanation == (
        "0 of at least 3 processes measured within the time budget; raise perf.budget"
    )


def test_processes_lost_for_other_reasons_are_inconclusive_too() -> None:
    verdict = judge(evidence(1.0, 1.0))
    assert verdict.kind is K.INCONCLUSIVE
    assert "2 of at least 3 processes measured; the others ended early" in verdict.explanation


@pytest.mark.parametrize("processes", [(), (1.0, 1.0)])
def test_what_an_interruption_left_undecided_says_so(processes: tuple[float, ...]) -> None:
    verdict = judge(evidence(*processes, limit=2.0, interrupted=True))
    measured = f"{len(processes)} of at least 3 processes measured"
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.explanation == f"{measured} before the session was interrupted"
    pairs = judge(paired(*GREY, interrupted=True))
    assert pairs.kind is K.INCONCLUSIVE
    assert "not decided before the session was interrupted" in pairs.explanation


def test_an_interruption_takes_no_verdict_back() -> None:
    called = judge(paired(*quiet_differences(0.3), interrupted=True))
    assert called.kind is K.REGRESSED
    assert called == judge(paired(*quiet_differences(0.3)))


def test_too_few_processes_do_not_hide_that_there_is_no_baseline() -> None:
    verdict = judge(evidence(1.0, baseline=BaselineSamples("missing"), budget_reached=True))
    assert K.NO_BASELINE in [reason.kind for reason in verdict.reasons]


def test_while_samples_are_still_to_come_it_is_open() -> None:
    assert judge(evidence(1.0, ended=False)).open
    assert not judge(evidence(1.0, budget_reached=True)).open


def test_a_missed_target_leaves_an_undecided_comparison_open() -> None:
    verdict = judge(paired(*GREY, limit=0.5, ended=False))
    assert verdict.kind is K.MISSED
    assert verdict.open


def test_a_strategy_of_ones_own_can_be_judged_by() -> None:
    class Silent:
        name = "silent"

        def judge(self, evidence: Evidence) -> None:
            return None

    with pytest.raises(ValueError, match="no strategy judges end_to_end"):
        judge(evidence(1.0), [Silent()])
