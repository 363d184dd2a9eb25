"""Gain of a remedy, measured in interleaved processes with and without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.gate.sequential import sequential_evidence
from pytest_llmperf.metrics import get_metric

if TYPE_CHECKING:
    from pytest_llmperf.measure.samples import TestSamples

#: Smallest gain, in one of the metrics, that makes a remedy worth reporting.
MIN_GAIN = 0.05
#: Smaller changes do not count; the interval of a gain has to exclude them.
NEGLIGIBLE = 0.01
#: Metrics to judge by: the three that targets are usually set for.
JUDGED_METRICS = ("tokens_per_sec", "first_token", "end_to_end")
#: An interval this narrow (natural log), or this part of the gain, needs no more pairs.
_NARROW, _NARROW_PART = 0.10, 0.35

Outcome = Literal["gain", "no gain", "slower", "undecided", "failed"]


@dataclass(frozen=True)
class RemedyChange:
    """Change of one metric, as natural logarithms of time ratios; negative is faster.

    Attributes:
        effect: the change with the remedy.
        low, high: its anytime-valid 95% interval; infinite with fewer than three pairs.
    """

    effect: float
    low: float
    high: float

    @property
    def speedup(self) -> tuple[float, float, float]:
        """Speed-up factor with the interval's ends: (value, low, high)."""
        return math.exp(-self.effect), math.exp(-self.high), math.exp(-self.low)

    @property
    def gains(self) -> bool:
        """Whether it is proven to be faster, and looks worth reporting."""
        return self.high < -math.log1p(NEGLIGIBLE) and -self.effect >= math.log1p(MIN_GAIN)

    @property
    def loses(self) -> bool:
        """Whether it is proven to be slower, and looks worth reporting."""
        return self.low > math.log1p(NEGLIGIBLE) and self.effect >= math.log1p(MIN_GAIN)

    @property
    def is_narrow(self) -> bool:
        """Whether more pairs would add little."""
        return self.high - self.low <= max(_NARROW, _NARROW_PART * abs(self.effect))

    @property
    def no_gain(self) -> bool:
        """Whether a gain worth reporting is ruled out."""
        return self.low > -math.log1p(MIN_GAIN)


@dataclass(frozen=True)
class RemedyGain:
    """Outcome of trying a remedy.

    Attributes:
        outcome: ``gain``, ``no gain``, ``slower``, ``undecided``, or ``failed``.
        changes: by metric name, for defined metrics.
        pairs: number of complete pairs of processes.
        why: reason that it failed or was not decided; empty otherwise.
        beside: settings of both sides: earlier remedies that helped.
        start_seconds: seconds to start and load with the remedy, and without it; None if unknown.
    """

    outcome: Outcome
    changes: Mapping[str, RemedyChange]
    pairs: int
    why: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    start_seconds: tuple[float, float] | None = None

    @property
    def largest(self) -> float:
        """Largest speed-up factor of any metric; 1 without gain."""
        proven = [change.speedup[0] for change in self.changes.values() if change.gains]
        return max(proven, default=1.0)


def changes_of(samples: TestSamples) -> dict[str, RemedyChange]:
    """Compute each metric's change over the complete pairs; the candidate has the remedy."""
    changes = {}
    for name in JUDGED_METRICS:
        metric = get_metric(name)
        worse = samples.differences(metric) or ()
        if not worse:
            continue
        state = sequential_evidence(worse, MIN_GAIN, metric)
        changes[name] = RemedyChange(state.effect, state.low, state.high)
    return changes


def judge(changes: Mapping[str, RemedyChange]) -> Outcome:
    """Decide the outcome from the changes so far.

    A gain in one metric does not count if the whole answer takes longer.
    """
    whole = changes.get("end_to_end")
    gains = any(change.gains for change in changes.values())
    if gains and (whole is None or (whole.effect <= 0 and not whole.loses)):
        return "gain"
    if any(change.loses for change in changes.values()):
        return "slower"
    if changes and all(change.no_gain for change in changes.values()):
        return "no gain"
    return "undecided"


def looks_slower(changes: Mapping[str, RemedyChange]) -> bool:
    """Whether a metric was slower by an amount worth reporting, proven or not."""
    return any(change.effect >= math.log1p(MIN_GAIN) for change in changes.values())


def why_undecided(changes: Mapping[str, RemedyChange]) -> str:
    """Return why the changes of all pairs decide nothing, in words that fit their sizes."""
    worth = math.log1p(MIN_GAIN)
    if looks_slower(changes):
        return "it looks slower, and the pairs differ too much to prove that"
    if any(-change.effect >= worth for change in changes.values()):
        return "the pairs differ too much to prove the gain"
    return "the gain is too small to measure"


def is_decided(changes: Mapping[str, RemedyChange]) -> bool:
    """Whether more pairs are unnecessary."""
    outcome = judge(changes)
    if outcome == "gain":
        return all(change.is_narrow for change in changes.values() if change.gains)
    return outcome != "undecided"
