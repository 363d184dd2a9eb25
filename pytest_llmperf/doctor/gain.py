"""What a remedy brought: the interleaved differences of processes with it and without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_llmperf.gate.numbers import differences
from pytest_llmperf.gate.running import running
from pytest_llmperf.metrics import get_metric

if TYPE_CHECKING:
    from pytest_llmperf.measure.samples import TestSamples

#: A remedy is worth its line from this gain on, in one of the metrics.
WORTH = 0.05
#: A smaller change than this is none; the interval of a gain has to stay clear of it.
NEGLIGIBLE = 0.01
#: What is looked at: the three numbers that targets are set for.
LOOKED_AT = ("tokens_per_sec", "first_token", "end_to_end")
#: An interval this narrow (natural log), or this part of the gain, is told as it is.
_NARROW, _NARROW_PART = 0.10, 0.35

Outcome = Literal["gain", "no gain", "slower", "undecided", "failed"]


@dataclass(frozen=True)
class MetricChange:
    """How one metric changed, as natural logarithms of time ratios; negative is faster.

    Attributes:
        effect: with the remedy against without it.
        low, high: its anytime-valid 95% interval; infinite with fewer than three pairs.
    """

    effect: float
    low: float
    high: float

    @property
    def speedup(self) -> tuple[float, float, float]:
        """How many times faster, with the interval's ends: (value, low, high)."""
        return math.exp(-self.effect), math.exp(-self.high), math.exp(-self.low)

    @property
    def gains(self) -> bool:
        """Whether it is proven to be faster by more than nothing, and looks worth it."""
        return self.high < -math.log1p(NEGLIGIBLE) and -self.effect >= math.log1p(WORTH)

    @property
    def loses(self) -> bool:
        """The same the other way."""
        return self.low > math.log1p(NEGLIGIBLE) and self.effect >= math.log1p(WORTH)

    @property
    def is_narrow(self) -> bool:
        """Whether more pairs would say little more."""
        return self.high - self.low <= max(_NARROW, _NARROW_PART * abs(self.effect))

    @property
    def no_gain(self) -> bool:
        """Whether a gain that would be worth it is ruled out."""
        return self.low > -math.log1p(WORTH)


@dataclass(frozen=True)
class Gain:
    """What trying a remedy showed.

    Attributes:
        outcome: ``gain``, ``no gain``, ``slower``, ``undecided``, or ``failed``.
        changes: by metric name, those that are defined.
        pairs: complete pairs of processes.
        why: why it failed or was not decided; empty otherwise.
    """

    outcome: Outcome
    changes: Mapping[str, MetricChange]
    pairs: int
    why: str = ""

    @property
    def largest(self) -> float:
        """How many times faster the metric is that gained most; 1 where none did."""
        proven = [change.speedup[0] for change in self.changes.values() if change.gains]
        return max(proven, default=1.0)


def changes_of(samples: TestSamples) -> dict[str, MetricChange]:
    """Return how each metric changed over the complete pairs; candidate is with the remedy."""
    found = {}
    for name in LOOKED_AT:
        metric = get_metric(name)
        candidate, base = samples.paired(name)
        if not candidate:
            continue
        worse = differences(metric, candidate, base, samples.beside(name))
        state = running(worse, WORTH, metric)
        found[name] = MetricChange(state.effect, state.low, state.high)
    return found


def judge(changes: Mapping[str, MetricChange]) -> Outcome:
    """Say what the changes prove so far.

    A gain in one metric must not be paid for with the whole answer's time.
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


def is_decided(changes: Mapping[str, MetricChange]) -> bool:
    """Whether more pairs would change nothing a reader needs."""
    outcome = judge(changes)
    if outcome == "gain":
        return all(change.is_narrow for change in changes.values() if change.gains)
    return outcome != "undecided"
