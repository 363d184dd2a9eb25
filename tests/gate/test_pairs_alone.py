"""Pairs whose processes ran one after the other may contradict the pairs that took turns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from gate_evidence import paired, quiet_differences

from pytest_llmperf.gate.check import Evidence
from pytest_llmperf.gate.combine import judge
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.without_turns import contradiction


def with_lone_pairs(effect: float, *changes: float) -> Evidence:
    """Return six pairs in turns with this effect, and lone pairs slower by these fractions."""
    given: Any = paired(*quiet_differences(effect, pairs=6))
    pairs = replace(given.pairs, without_turns=tuple(map(math.log1p, changes)))
    return replace(given, pairs=pairs)


@pytest.mark.parametrize(
    "changes",
    [
        (0.12,),
        (0.12, 0.2, 0.08),
        # Enough pairs, but so far apart that this may be noise.
        (0.06, 0.3, 0.08, 0.07),
    ],
)
def test_few_pairs_alone_ask_for_more_and_change_no_verdict(changes: tuple[float, ...]) -> None:
    conflict = contradiction(with_lone_pairs(0.0, *changes))

    assert conflict is not None
    assert (conflict.pairs, conflict.proven) == (len(changes), False)
    verdict = judge(with_lone_pairs(0.0, *changes))
    assert verdict.kind is VerdictKind.PASS
    assert "ran one after the other (this may be noise)" in " ".join(verdict.facts)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (0.04,),
        (-0.04, 0.03),
        # One lone pair that agrees with the turns is enough: such pairs are noisy.
        (0.12, 0.2, 0.01, 0.15),
        (0.12, -0.12),
    ],
)
def test_pairs_alone_that_agree_contradict_nothing(changes: tuple[float, ...]) -> None:
    assert contradiction(with_lone_pairs(0.0, *changes)) is None
    assert judge(with_lone_pairs(0.0, *changes)).kind is VerdictKind.PASS


def test_what_four_pairs_alone_contradict_is_no_pass() -> None:
    verdict = judge(with_lone_pairs(0.0, 0.12, 0.14, 0.11, 0.12))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert not verdict.open
    assert verdict.claim == (
        "no change in turns, but 12.2% slower in 4 pairs whose processes ran one after the other: "
        "the sides affect each other (a shared cache, heat, clocks); set perf.turns: processes "
        "to compare them without turns"
    )
    improved = judge(with_lone_pairs(math.log(0.9), 0.12, 0.14, 0.11, 0.12))
    assert improved.kind is VerdictKind.INCONCLUSIVE


def test_a_slowdown_in_turns_is_called_whatever_the_others_say() -> None:
    verdict = judge(with_lone_pairs(math.log(1.1), -0.1, -0.1, -0.12, -0.1))

    assert verdict.kind is VerdictKind.REGRESSED
    assert "faster in 4 pairs whose processes ran one after the other" in " ".join(verdict.facts)


def test_turns_are_compared_once_there_are_three() -> None:
    given: Any = paired(*quiet_differences(0.0, pairs=2))
    pairs = replace(given.pairs, without_turns=(0.2,))

    assert contradiction(replace(given, pairs=pairs)) is None


@pytest.mark.parametrize(("given", "said"), [((), True), ((0.01,), False), (None, False)])
def test_turns_without_a_pair_alone_are_reported(
    given: tuple[float, ...] | None, said: bool
) -> None:
    evidence: Any = paired(*quiet_differences(0.0, pairs=6))
    verdict = judge(replace(evidence, pairs=replace(evidence.pairs, without_turns=given)))

    assert ("no pair of processes ran one after the other" in verdict.facts) == said
