"""Whether pairs whose processes ran one after the other contradict those that took turns."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import paired_differences
from pytest_llmperf.gate.rules import slowdown
from pytest_llmperf.gate.running import running, zone_of

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence

#: Fewest pairs that must contradict the turns, each and in the same direction.
ENOUGH = 4
#: Pairs in turns before the others are compared with them.
_MIN_TURNS = 3


@dataclass(frozen=True)
class Contradiction:
    """Pairs that ran alone and all differ from those in turns by more than the tolerance.

    Attributes:
        pairs: number of these pairs.
        change: their mean slowdown as a fraction; positive is worse.
        proven: they are too many, and agree too well, to be noise; else more have to be measured.
    """

    pairs: int
    change: float
    proven: bool


def contradiction(evidence: Evidence) -> Contradiction | None:
    """Return how the pairs that ran alone contradict those in turns; None if they don't.

    Turns can't show what both sides share, such as heat or a cache that one of them fills.
    """
    pairs, tolerance, metric = evidence.pairs, evidence.check.tolerance, evidence.check.metric
    if (
        pairs is None
        or not pairs.alone
        or len(in_turns := paired_differences(evidence)) < _MIN_TURNS
    ):
        return None
    middle, limit = median(in_turns), zone_of(tolerance).tolerance
    gaps = tuple(difference - middle for difference in pairs.alone)
    if -limit <= max(gaps) and min(gaps) <= limit:
        return None
    state = running(gaps, tolerance, metric)
    proven = len(gaps) >= ENOUGH and (state.low > 0.0 or state.high < 0.0)
    return Contradiction(len(gaps), slowdown(fmean(pairs.alone)), proven)
