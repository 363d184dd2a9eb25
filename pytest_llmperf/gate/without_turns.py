"""Contradictions between pairs that took turns and pairs run one process after the other."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import paired_differences
from pytest_llmperf.gate.rules import slowdown
from pytest_llmperf.gate.sequential import sequential_evidence, zone_of

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence

#: Minimum number of pairs without turns to prove a contradiction, all in the same direction.
MIN_CONTRADICTING_PAIRS = 4
#: Minimum number of pairs with turns to compare the others with.
_MIN_TURNS = 3


@dataclass(frozen=True)
class Contradiction:
    """Pairs without turns that all differ from those with turns by more than the tolerance.

    Attributes:
        pairs: number of pairs without turns.
        change: their mean slowdown as a fraction; positive is worse.
        proven: they are too many, and agree too well, to be noise; else more must be measured.
    """

    pairs: int
    change: float
    proven: bool


def contradiction(evidence: Evidence) -> Contradiction | None:
    """Return how the pairs without turns contradict those with turns; None if they don't.

    Turns hide effects that both sides share, such as heat or a cache that one of them fills.
    """
    pairs, tolerance, metric = evidence.pairs, evidence.check.tolerance, evidence.check.metric
    if (
        pairs is None
        or not pairs.without_turns
        or len(in_turns := paired_differences(evidence)) < _MIN_TURNS
    ):
        return None
    middle, limit = median(in_turns), zone_of(tolerance).tolerance
    gaps = tuple(difference - middle for difference in pairs.without_turns)
    if -limit <= max(gaps) and min(gaps) <= limit:
        return None
    state = sequential_evidence(gaps, tolerance, metric)
    proven = len(gaps) >= MIN_CONTRADICTING_PAIRS and (state.low > 0.0 or state.high < 0.0)
    return Contradiction(len(gaps), slowdown(fmean(pairs.without_turns)), proven)
