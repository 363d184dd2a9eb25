"""What a metric is: name, unit, direction, and how its value follows from timelines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from pytest_llmperf.timeline import Timeline


class Direction(Enum):
    """Which way is better."""

    HIGHER = "higher"
    LOWER = "lower"


class Unit(Enum):
    """Base units; values are always kept in these."""

    TOKENS_PER_SECOND = "tok/s"
    SECONDS = "s"
    BYTES = "B"
    JOULES = "J"
    WATTS = "W"
    RATIO = "%"


@dataclass(frozen=True)
class Metric:
    """One quantity the plugin measures.

    Attributes:
        name: what markers, configuration and files call it.
        label: what tables call it.
        unit: base unit of every stored value.
        direction: which way is better.
        quantity: metrics that are one quantity seen two ways share this, and
            count as one check.
        formula: how it follows from a timeline (see docs/words.md).
        source: where the definition comes from.
        compute: timelines of one iteration's requests -> value in ``unit``, or
            None where it is undefined (one output token has no decode rate).
        kind: ``value`` has one number per iteration; ``percentile`` one per group of
            processes, over what the iterations hold; ``share`` counts iterations.
        compared: whether it is held against a baseline or another side; one that has a measure
            of its own in this machine is held to its target alone.
        beside: the value is measured beside the generation (by the GPU's counters, or with
            the machine's bandwidth), so no timeline holds it and ``compute`` gives None.
        resolution: the smallest value that can be told from zero, in ``unit``; on the log scale
            zero and smaller values count as it. None where nothing can measure zero.
    """

    name: str
    label: str
    unit: Unit
    direction: Direction
    quantity: str
    formula: str
    source: str
    compute: Callable[[Sequence[Timeline]], float | None]
    kind: Literal["value", "percentile", "share"] = "value"
    beside: bool = False
    compared: bool = True
    resolution: float | None = None

    @property
    def limit_kind(self) -> str:
        """``"min"`` for higher-is-better metrics, ``"max"`` for the others."""
        return "min" if self.direction is Direction.HIGHER else "max"

    def allows(self, value: float) -> bool:
        """Whether a measurement can come to this value: plausible, and zero only where it may."""
        return is_plausible(value) or (value == 0 and self.resolution is not None)

    def log(self, value: float) -> float:
        """Return the natural logarithm of a value; zero counts as the metric's resolution.

        Raises:
            ValueError: the value is not above zero, and nothing can measure zero.
        """
        return math.log(max(value, self.resolution or 0.0))

    def slowdown(self, current: float, baseline: float) -> float:
        """Relative change with the sign turned so that positive is worse (0.05 = 5% worse)."""
        least = self.resolution or 0.0
        now, before = max(current, least), max(baseline, least)
        return (before / now if self.direction is Direction.HIGHER else now / before) - 1.0


#: No measurement of any unit lies outside: a nanosecond, a terabyte and more are far inside.
SMALLEST, LARGEST = 1e-15, 1e18


def is_plausible(value: float) -> bool:
    """Whether a number can be a measurement of anything but zero."""
    return SMALLEST <= value <= LARGEST
