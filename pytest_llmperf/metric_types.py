"""The type of metrics: name, unit, direction, and formula over a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from pytest_llmperf.run import Run


class Direction(Enum):
    """Direction in which a metric improves."""

    HIGHER = "higher"
    LOWER = "lower"


class Unit(Enum):
    """Base units, in which all values are stored."""

    TOKENS_PER_SECOND = "tok/s"
    PER_SECOND = "/s"
    SECONDS = "s"
    BYTES = "B"
    JOULES = "J"
    WATTS = "W"
    RATIO = "%"
    NATS = "nats"


@dataclass(frozen=True)
class Metric:
    """A metric that the plugin measures.

    Attributes:
        name: its name in markers, configuration and files.
        label: its name in tables.
        unit: base unit of every stored value.
        direction: direction of improvement.
        quantity: metrics that express one quantity in two ways share this, and
            count as one check.
        formula: its formula over a run, in words (see docs/words.md).
        source: source of the definition.
        compute: run -> value in ``unit``, or None where it is undefined (one output token has
            no decode rate).
        kind: ``value`` has one number per iteration; ``percentile`` one per group of
            processes, over all values of the iterations; ``share`` counts iterations.
        compared: whether it is compared with a baseline or another side; a metric relative to
            this machine is only held to its target.
        beside: the value is measured outside of the generation (by the GPU's counters, or
            with the machine's bandwidth), so ``compute`` returns None.
        resolution: the smallest value distinguishable from zero, in ``unit``; on the log
            scale it replaces smaller values. None if the metric is never zero.
        largest: the largest possible value; None if there is none.
    """

    name: str
    label: str
    unit: Unit
    direction: Direction
    quantity: str
    formula: str
    source: str
    compute: Callable[[Run], float | None]
    kind: Literal["value", "percentile", "share"] = "value"
    beside: bool = False
    compared: bool = True
    resolution: float | None = None
    largest: float | None = None

    @property
    def limit_kind(self) -> str:
        """``"min"`` for higher-is-better metrics, ``"max"`` for the others."""
        return "min" if self.direction is Direction.HIGHER else "max"

    def allows(self, value: float) -> bool:
        """Whether a measurement can have this value: plausible, and zero only if allowed."""
        return is_plausible(value) or (value == 0 and self.resolution is not None)

    def log(self, value: float) -> float:
        """Return the natural logarithm of a value; zero counts as the metric's resolution.

        Raises:
            ValueError: the value is not above zero, and the metric is never zero.
        """
        return math.log(max(value, self.resolution or 0.0))

    def signed_log(self, value: float) -> float:
        """Return the logarithm of a value, signed so that more is worse.

        Raises:
            ValueError: as ``log``.
        """
        return -self.log(value) if self.direction is Direction.HIGHER else self.log(value)

    def slowdown(self, current: float, baseline: float) -> float:
        """Relative change, signed so that positive is worse (0.05 = 5% worse)."""
        floor = self.resolution or 0.0
        now, before = max(current, floor), max(baseline, floor)
        return (before / now if self.direction is Direction.HIGHER else now / before) - 1.0


#: Range of plausible measurements in any unit, from far below a nanosecond to above a terabyte.
SMALLEST, LARGEST = 1e-15, 1e18


def is_plausible(value: float) -> bool:
    """Whether a number is plausible as a non-zero measurement."""
    return SMALLEST <= value <= LARGEST
