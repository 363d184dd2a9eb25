"""Bounds on the sessions and the time that a search takes."""

from __future__ import annotations

from dataclasses import dataclass

#: Beside the search: the bad end itself, and the answer against its own parent.
_AROUND = 2


@dataclass(frozen=True)
class Estimate:
    """Bounds on a search.

    Attributes:
        commits: how many may be the first bad one.
        line: they are one line of commits; with merges the bound is git's guess.
        budget: the longest time one session measures, seconds.
        known: sessions that need not be measured again.
    """

    commits: int
    line: bool
    budget: float
    known: int = 0

    @property
    def search(self) -> int:
        """Sessions that halve the range until one commit is left."""
        return (self.commits - 1).bit_length()

    @property
    def sessions(self) -> int:
        """All sessions, if none has to be skipped."""
        return self.search + _AROUND

    @property
    def longest(self) -> float:
        """Seconds of measuring in all, at most."""
        return max(0, self.sessions - self.known) * self.budget
