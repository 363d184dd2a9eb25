"""Tests that more samples could still decide, and how many pairs that takes."""

from __future__ import annotations

import math

import pytest
from gate_evidence import paired, quiet_differences

from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.session.open_tests import open_tests
from pytest_llmperf.session.result import CheckResult


def result(*slowdowns: float) -> CheckResult:
    evidence = paired(*slowdowns, ended=False)
    return CheckResult(evidence, judge(evidence))


def test_an_undecided_test_is_open_with_the_pairs_and_the_time_that_it_takes() -> None:
    row = result(0.10, 0.0, 0.06, -0.01, 0.08)
    (needed,) = open_tests([row]).values()

    assert row.verdict is not None
    assert row.verdict.proof is not None
    more = row.verdict.proof.more
    assert more is not None
    assert (needed.pairs, needed.seconds) == (more, more * 30.0)


def test_a_test_that_no_number_of_pairs_decides_takes_infinitely_many() -> None:
    # Halfway between negligible and the tolerance, and very noisy.
    (needed,) = open_tests([result(1.0, -0.93, 0.9, -0.85)]).values()

    assert needed.pairs == math.inf


def test_a_missed_target_says_nothing_of_what_the_comparison_takes() -> None:
    slowdowns = (0.10, 0.0, 0.06, -0.01, 0.08)
    missed = paired(*slowdowns, limit=0.5, ended=False)
    row = CheckResult(missed, judge(missed))

    assert row.verdict is not None
    assert row.verdict.kind is VerdictKind.MISSED
    (without,), (needed,) = (open_tests([check]).values() for check in (result(*slowdowns), row))
    assert (needed.pairs, needed.seconds) == (without.pairs, without.seconds)


@pytest.mark.parametrize("slowdowns", [quiet_differences(0.0), quiet_differences(0.1)])
def test_what_passes_or_is_called_is_not_open(slowdowns: tuple[float, ...]) -> None:
    assert not open_tests([result(*slowdowns)])
