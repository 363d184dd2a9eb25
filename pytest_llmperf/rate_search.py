"""Search for the highest rate at which a condition still holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

#: Whether the condition holds at a rate: shown, refuted, or neither.
Answer = Literal["kept", "missed", "undecided"]
#: Significant digits of the rates that are tried.
_DIGITS = 3


@dataclass
class RateSearch:
    """A search that doubles or halves the rate until two rates enclose the edge, then bisects.

    A condition that holds at a rate is assumed to hold at every lower rate. If some rates stay
    undecided there are two edges: above the highest rate kept, and below the lowest missed.

    Attributes:
        start: first rate to try.
        precision: the search ends when both edges are known up to this share of the rate.
        lowest, highest: bounds of the rates that are tried.
        answers: answers so far, by rate.
    """

    start: float
    precision: float = 0.1
    lowest: float = 0.01
    highest: float = 1e5
    answers: dict[float, Answer] = field(default_factory=dict)

    @property
    def kept(self) -> float | None:
        """Highest rate at which the condition was shown to hold; None if there is none."""
        return max((rate for rate, got in self.answers.items() if got == "kept"), default=None)

    @property
    def missed(self) -> float | None:
        """Lowest rate at which the condition was refuted; None if there is none."""
        return min((rate for rate, got in self.answers.items() if got == "missed"), default=None)

    @property
    def next(self) -> float | None:
        """Rate to try next; None if the search has ended."""
        if not self.answers:
            return self.start
        kept, missed = self.kept, self.missed
        not_kept = [rate for rate, got in self.answers.items() if got != "kept"]
        not_missed = [rate for rate, got in self.answers.items() if got != "missed"]
        above = min((rate for rate in not_kept if rate > (kept or 0.0)), default=None)
        below = max((rate for rate in not_missed if rate < (missed or math.inf)), default=None)
        edges = ((kept, above), (below, missed))
        rates = (self._between(low, high) for low, high in edges)
        return next((rate for rate in rates if rate is not None), None)

    def answer(self, rate: float, answer: Answer) -> None:
        """Add the answer for a rate."""
        self.answers[rate] = answer

    def _between(self, low: float | None, high: float | None) -> float | None:
        """Return the rate to try between two rates, or beyond the known one; None if none."""
        if low is not None and high is not None:
            wanted = math.sqrt(low * high)
            if high <= low * (1 + self.precision):
                return None
        elif low is not None:
            wanted = 2 * low
        elif high is not None:
            wanted = high / 2
        else:
            return None
        rate = float(f"{wanted:.{_DIGITS}g}")
        is_new = rate not in self.answers and self.lowest <= rate <= self.highest
        return rate if is_new else None
