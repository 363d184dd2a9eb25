"""What more samples could still decide, and how many that takes."""

from __future__ import annotations

import math

import pytest
from gate_evidence import paired, shifted

from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.session.open_tests import open_tests
from pytest_llmperf.session.result import CheckResult


def result(*slowdowns: float) -> CheckResult:
    evidence = paired(*slowdowns, ended=False)
    return CheckResult(evidence, judge(evidence))


def test_an_undecided_test_is_open_with_the_pairs_and_the_time_that_it_takes() -> None:
    one = result(0.10, 0.0, 0.06, -0.01, 0.08)
    (found,) = open_tests([one]).values()

    assert one.verdict is not None
    assert one.verdict.proof is not None
    more = one.verdict.proof.more
    assert more is not None
    assert (found.pairs, found.seconds) == (more, more * 30.0)


def test_a_test_that_no_number_of_pairs_decides_takes_infinitely_many() -> None:
    # Half-way between what must not be called and what must not pass, and very noisy.
    (found,) = open_tests([result(1.0, -0.93, 0.9, -0.85)]).values()

    assert found.pairs == math.inf


def test_a_missed_target_says_nothing_of_what_the_comparison_takes() -> None:
    slowdowns = (0.10, 0.0, 0.06, -0.01, 0.08)
    missed = paired(*slowdowns, limit=0.5, ended=False)
    one = CheckResult(missed, judge(missed))

    assert one.verdict is not None
    assert one.verdict.kind is VerdictKind.MISSED
    (without,), (found,) = (open_tests([each]).values() for each in (result(*slowdowns), one))
    assert (found.pairs, found.seconds) == (without.pairs, without.seconds)


@pytest.mark.parametrize("slowdowns", [shifted(0.0), shifted(0.1)])
def test_what_passes_or_is_called_is_not_open(slowdowns: tuple[float, ...]) -> None:
    assert not open_tests([result(*slowdowns)])
