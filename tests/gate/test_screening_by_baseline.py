"""Verdicts on this session against stored ones, whose own spread is part of the noise."""

from __future__ import annotations

import pytest
from gate_evidence import baseline, evidence, rows
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.baselines.samples import BaselineSamples
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.numbers import compare
from pytest_llmperf.gate.verdict import VerdictKind

K = VerdictKind
TEN = baseline(1.0, 1.004, 0.996, 1.002, 0.998, 1.0, 1.003, 0.997, 1.001, 0.999)
THREE = baseline(1.0, 1.01, 0.99)


def test_one_stored_session_passes_nothing_that_is_not_faster() -> None:
    verdict = judge(evidence(1.0, 1.0, 1.0, baseline=baseline(1.0)))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.claim.endswith(", but 1 stored session can't prove a pass")


def test_a_slowdown_within_what_sessions_differ_by_is_suspect() -> None:
    verdict = judge(evidence(1.03, 1.03, 1.03, baseline=baseline(1.0)))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.claim.startswith("3.0% slower")
    assert "suspect: within the spread between sessions" in verdict.claim


def test_one_stored_session_still_calls_what_no_session_differs_by() -> None:
    assert judge(evidence(2.0, 2.0, 2.0, baseline=baseline(1.0))).kind is K.REGRESSED


def test_fewer_than_three_processes_call_nothing_against_stored_sessions() -> None:
    # One process may have met a stall from end to end.
    two = evidence(2.0, 2.0, baseline=TEN, planned_processes=2)
    assert judge(two).kind is K.INCONCLUSIVE


def test_processes_measured_for_the_sake_of_a_target_are_no_second_look() -> None:
    later = evidence(1.0, 1.0, 1.0, *(1.5,) * 9, baseline=TEN)
    assert judge(later).kind is K.PASS


def test_a_suspect_is_not_open_because_more_of_this_session_can_not_tell() -> None:
    assert not judge(evidence(1.0, 1.0, 1.0, baseline=baseline(1.0), ended=False)).open


@pytest.mark.parametrize(("view", "kind"), [(THREE, K.PASS), (TEN, K.PASS)])
def test_an_unchanged_level_passes_from_three_sessions_on(
    view: BaselineSamples, kind: VerdictKind
) -> None:
    assert judge(evidence(1.0, 1.0, 1.0, baseline=view)).kind is kind


def test_three_sessions_leave_suspect_what_ten_sessions_call() -> None:
    assert judge(evidence(1.07, 1.07, 1.07, baseline=THREE)).kind is K.INCONCLUSIVE
    assert judge(evidence(1.07, 1.07, 1.07, baseline=TEN)).kind is K.REGRESSED


def test_sessions_that_differ_a_lot_call_less() -> None:
    wide = baseline(*(1.0 + 0.05 * (-1) ** n for n in range(10)))
    assert judge(evidence(1.1, 1.1, 1.1, baseline=TEN)).kind is K.REGRESSED
    assert judge(evidence(1.1, 1.1, 1.1, baseline=wide)).kind is K.INCONCLUSIVE


def test_a_rate_that_fell_is_regressed() -> None:
    view = baseline(*(100.0 / v[0][0] for v in TEN.sessions))
    verdict = judge(evidence(80.0, 80.0, 80.0, metric="tokens_per_sec", baseline=view))
    assert verdict.kind is K.REGRESSED
    assert verdict.change == pytest.approx(0.25, abs=0.005)


def test_faster_than_sessions_differ_is_improved_and_the_baseline_is_stale() -> None:
    verdict = judge(evidence(0.9, 0.9, 0.9, baseline=TEN))
    assert verdict.kind is K.IMPROVED
    assert verdict.claim.endswith("the baseline is stale")


def test_what_so_many_sessions_can_tell_is_said() -> None:
    one = judge(evidence(1.0, 1.0, 1.0, baseline=baseline(1.0)))
    ten = judge(evidence(1.0, 1.0, 1.0, baseline=TEN))
    assert "1 stored session can decide: passes only from" in one.explanation
    assert "10 stored sessions can decide: passes up to" in ten.explanation


def test_more_sessions_can_tell_more() -> None:
    proofs = [judge(evidence(1.0, 1.0, 1.0, baseline=v)).proof for v in (baseline(1.0), THREE, TEN)]
    passes = [proof.passes_up_to for proof in proofs if proof]
    calls = [proof.calls_from for proof in proofs if proof]
    assert passes == sorted(passes)  # type: ignore[type-var]
    assert calls == sorted(calls, reverse=True)  # type: ignore[type-var]


def test_just_what_it_says_it_passes_passes() -> None:
    proof = judge(evidence(1.0, 1.0, 1.0, baseline=TEN)).proof
    assert proof is not None
    assert proof.passes_up_to is not None
    centre = compare(evidence(1.0, 1.0, 1.0, baseline=TEN)).baseline
    assert centre is not None
    edge = centre.value * (1 + proof.passes_up_to)
    below, above = edge * 0.9999, edge * 1.0001
    assert judge(evidence(below, below, below, baseline=TEN)).kind is K.PASS
    assert judge(evidence(above, above, above, baseline=TEN)).kind is K.INCONCLUSIVE


def test_a_session_whose_fastest_process_is_no_slower_is_suspect_and_not_called() -> None:
    verdict = judge(evidence(1.0, 1.5, 1.5, baseline=TEN))
    assert verdict.kind is K.INCONCLUSIVE
    assert verdict.claim.endswith("suspect: not every process is that slow")
    # A sample of an already running server comes from a block.
    of_blocks = judge(evidence(1.0, 1.5, 1.5, baseline=TEN, unit="block"))
    assert of_blocks.claim.endswith("suspect: not every block is that slow")
    assert verdict.proof is not None
    assert verdict.proof.more is None


def test_how_many_more_sessions_would_decide_is_known_and_is_true() -> None:
    verdict = judge(evidence(1.0, 1.0, 1.0, baseline=baseline(1.0)))
    assert verdict.proof is not None
    assert verdict.proof.more is not None
    enough = baseline(*(1.0,) * (1 + verdict.proof.more))
    assert judge(evidence(1.0, 1.0, 1.0, baseline=enough)).kind is K.PASS


def test_no_number_of_sessions_decides_what_is_less_than_they_differ() -> None:
    proof = judge(evidence(1.03, 1.03, 1.03, baseline=baseline(0.95, 1.0, 1.05))).proof
    assert proof is not None
    assert proof.more is None


def test_the_baseline_is_the_geometric_mean_of_its_sessions() -> None:
    numbers = compare(evidence(1.0, 1.0, 1.0, baseline=baseline(0.5, 2.0)))
    assert numbers.baseline is not None
    assert numbers.baseline.value == pytest.approx(1.0)
    assert numbers.baseline_sessions == 2


def test_one_slow_process_of_three_does_not_decide() -> None:
    assert judge(evidence(1.0, 4.0, 1.0, baseline=TEN)).kind is K.PASS


def test_a_session_of_fewer_processes_than_the_stored_ones_claims_less() -> None:
    spread = (0.97, 1.0, 1.03, 0.98, 1.02, 1.01, 0.99, 1.0, 1.0)
    view = BaselineSamples("ok", (rows(spread),) * 10, tuple("abcdefghij"))
    few = judge(evidence(1.0, baseline=view, planned_processes=1)).proof
    many = judge(evidence(*spread, baseline=view)).proof
    assert few is not None
    assert many is not None
    assert few.bound is not None
    assert many.bound is not None
    assert few.bound > many.bound


def test_without_a_baseline_there_is_no_baseline() -> None:
    verdict = judge(evidence(0.4, 0.4, 0.4, baseline=BaselineSamples("missing")))
    assert verdict.kind is K.NO_BASELINE
    assert verdict.explanation == "no session recorded on this machine contains this test"


def test_no_baseline_says_why_in_the_stores_words() -> None:
    view = BaselineSamples("missing", detail="nearest machine: xeon-4c_cpu (4 cores, here 2)")
    assert judge(evidence(0.4, 0.4, 0.4, baseline=view)).explanation == view.detail


def test_a_baseline_without_sessions_is_no_baseline() -> None:
    assert judge(evidence(1.0, 1.0, 1.0, baseline=BaselineSamples("ok"))).kind is K.NO_BASELINE


def test_a_changed_workload_is_never_compared() -> None:
    view = BaselineSamples("workload changed", (rows((1.0,) * 3),), detail="64 out, was 32")
    verdict = judge(evidence(9.0, 9.0, 9.0, baseline=view))
    assert verdict.kind is K.WORKLOAD_CHANGED
    assert verdict.change is None
    assert verdict.explanation == "64 out, was 32"


@given(
    st.lists(st.floats(min_value=0.9, max_value=1.1), min_size=1, max_size=10),
    st.floats(min_value=0.5, max_value=2.0),
)
def test_slower_is_never_judged_better(stored: list[float], value: float) -> None:
    view = baseline(*stored)
    order = [K.IMPROVED, K.PASS, K.INCONCLUSIVE, K.REGRESSED]
    faster, slower = (judge(evidence(v, v, v, baseline=view)).kind for v in (value, value * 1.05))
    assert order.index(faster) <= order.index(slower)
