"""How a comparison went: each pair's difference, and the interval after each look, for reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_llmperf.gate.numbers import paired_differences, target_differences
from pytest_llmperf.gate.rules import slowdown
from pytest_llmperf.gate.sequential import intervals_so_far

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence

#: Maximum number of looks kept of a long comparison; always includes the first and the last.
MAX_LOOKS = 60


@dataclass(frozen=True)
class LookInterval:
    """The slowdown as a fraction after ``samples`` pairs or processes, with its interval."""

    samples: int
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class CheckProgress:
    """The differences that a verdict rests on, in the order they were measured.

    Attributes:
        against: what each sample is compared with: the ``base`` side, or the test's ``target``.
        differences: slowdown of each pair, or of each process against the limit, as fractions;
            positive is worse.
        looks: the interval after each look that could decide, the last one included.
    """

    against: Literal["base", "target"]
    differences: tuple[float, ...]
    looks: tuple[LookInterval, ...]


def progress_of(evidence: Evidence) -> CheckProgress | None:
    """Return how the comparison of a check went; None if it is not decided sample by sample.

    That is so without a base side and a target, for shares, and for unusable samples.
    """
    check = evidence.check
    if check.metric.kind == "share":
        return None
    try:
        if evidence.pairs is not None:
            against: Literal["base", "target"] = "base"
            differences, tolerance = paired_differences(evidence), check.tolerance
        elif check.limit is not None and evidence.samples:
            against, differences, tolerance = "target", target_differences(evidence), 0.0
        else:
            return None
    except ValueError:
        return None  # the verdict gives the reason
    looks = [
        LookInterval(count, *map(slowdown, numbers))
        for count, *numbers in intervals_so_far(differences, tolerance, check.metric)
    ]
    return CheckProgress(against, tuple(map(slowdown, differences)), tuple(_thinned(looks)))


def _thinned(looks: list[LookInterval]) -> list[LookInterval]:
    if len(looks) <= MAX_LOOKS:
        return looks
    last = len(looks) - 1
    return [looks[round(number * last / (MAX_LOOKS - 1))] for number in range(MAX_LOOKS)]
