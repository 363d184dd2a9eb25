"""The search for the highest rate at which something still holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

#: Whether it holds at a rate: shown, refuted, or neither.
Answer = Literal["kept", "missed", "undecided"]
#: Significant digits of the rates that are tried.
_DIGITS = 3


@dataclass
class RateSearch:
    """A search that doubles or halves the rate until the edge is between two, then narrows it.

    What holds at a rate is taken to hold at every lower one.

    Attributes:
        start: first rate to try.
        precision: the search ends when the edge is known up to this share of the rate.
        lowest, highest: no other rates are tried.
        answers: so far, by rate.
    """

    start: float
    precision: float = 0.1
    lowest: float = 0.01
    highest: float = 1e5
    answers: dict[float, Answer] = field(default_factory=dict)

    @property
    def kept(self) -> float | None:
        """Highest rate at which it was shown to hold; None if at none."""
        return max((rate for rate, one in self.answers.items() if one == "kept"), default=None)

    @property
    def missed(self) -> float | None:
        """Lowest rate at which it was refuted; None if at none."""
        return min((rate for rate, one in self.answers.items() if one == "missed"), default=None)

    @property
    def next(self) -> float | None:
        """Rate to try next; None if the search has ended."""
        if not self.answers:
            return self.start
        kept, ceiling = self.kept, self._ceiling
        if ceiling is None:
            assert kept is not None
            wanted = 2 * kept
        elif kept is None:
            wanted = ceiling / 2
        elif ceiling <= kept * (1 + self.precision):
            return None
        else:
            wanted = math.sqrt(kept * ceiling)
        rate = float(f"{wanted:.{_DIGITS}g}")
        is_new = rate not in self.answers and self.lowest <= rate <= self.highest
        return rate if is_new else None

    def answer(self, rate: float, answer: Answer) -> None:
        """Note what was found at a rate."""
        self.answers[rate] = answer

    @property
    def _ceiling(self) -> float | None:
        """Lowest rate above those kept at which it was not shown to hold."""
        above = self.kept or 0.0
        other = (rate for rate, one in self.answers.items() if one != "kept" and rate > above)
        return min(other, default=None)
