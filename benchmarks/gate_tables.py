"""What a simulation prints: rates with their intervals, tables, requirements met or missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_llmperf.stats.proportions import binomial_interval


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``of``; prints as per cent with its exact 95% binomial interval."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.of if self.of else math.nan

    def interval(self) -> tuple[float, float]:
        """Return the Clopper-Pearson interval of the share."""
        return binomial_interval(self.hits, self.of) if self.of else (0.0, 1.0)

    def __str__(self) -> str:
        if not self.of:
            return "-"
        low, high = self.interval()
        return f"{_percent(self.value)} [{_end(low)}, {_end(high)}]"


@dataclass(frozen=True)
class Mean:
    """A mean with its Monte-Carlo standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: ArrayLike) -> Mean:
        """Return the mean of ``values``; nan where there are none."""
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.size == 0:
            return cls(math.nan, math.nan)
        spread = float(numbers.std(ddof=1)) if numbers.size > 1 else math.nan
        return cls(float(numbers.mean()), spread / math.sqrt(numbers.size))

    def interval(self) -> tuple[float, float]:
        """Return the normal 95% interval of the mean."""
        half = 1.96 * (math.inf if math.isnan(self.error) else self.error)
        return self.value - half, self.value + half

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        return f"{self.value:.1f}" + ("" if math.isnan(self.error) else f"±{self.error:.2f}")


def _percent(share: float) -> str:
    percent = 100.0 * share
    if percent in (0.0, 100.0):
        return f"{percent:.0f}"
    if percent < 0.005 or percent > 99.995:
        return "<0.01" if percent < 50.0 else ">99.99"
    # Digits that mean something at both ends: 0.04, 4.8, 99.96.
    return f"{percent:.2f}" if percent < 1.0 or percent > 99.0 else f"{percent:.1f}"


def _end(share: float) -> str:
    """Return one end of an interval, in per cent; shorter than the value itself."""
    percent = 100.0 * share
    return f"{percent:.2f}" if 0.0 < percent < 1.0 else f"{percent:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Requirement:
    """A number that must be reached, and what was measured.

    Attributes:
        what: in words, with the limit.
        measured: as printed.
        met: whether it is.
    """

    what: str
    measured: str
    met: bool


@dataclass
class Report:
    """Everything the simulation found: printed as it comes, kept for ``--json``.

    Attributes:
        exact: whether the measured value itself must meet a requirement; otherwise, for
            few repetitions, the nearer end of its interval.
    """

    exact: bool = True
    tables: list[dict[str, Any]] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print one table, columns as wide as their cells, and keep it."""
        cells = [[str(cell) for cell in row] for row in rows]
        self.tables.append({"title": title, "columns": list(head), "rows": cells})
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        print(f"\n{title}")
        for row in (head, *cells):
            first, *rest = zip(row, widths, strict=True)
            line = first[0].ljust(first[1])
            line += "".join(f"  {cell.rjust(width)}" for cell, width in rest)
            print(line.rstrip())

    def note(self, text: str) -> None:
        """Print a line below a table and keep it."""
        print(text)
        if self.tables:
            self.tables[-1].setdefault("notes", []).append(text)

    def at_most(self, what: str, measured: Rate | Mean, limit: float) -> None:
        """Keep the requirement that ``measured`` is at most ``limit``."""
        best = measured.value if self.exact else measured.interval()[0]
        self._keep(what, measured, met=best <= limit)

    def at_least(self, what: str, measured: Rate | Mean, limit: float) -> None:
        """Keep the requirement that ``measured`` is at least ``limit``."""
        best = measured.value if self.exact else measured.interval()[1]
        self._keep(what, measured, met=best >= limit)

    def _keep(self, what: str, measured: Rate | Mean, *, met: bool) -> None:
        unit = "%" if isinstance(measured, Rate) else ""
        self.requirements.append(Requirement(what, f"{measured}{unit}", met))

    def close(self) -> bool:
        """Print every requirement with ok or MISSED; return whether all are met."""
        if self.requirements:
            self.table(
                "Requirements",
                ("required", "measured", ""),
                [(r.what, r.measured, "ok" if r.met else "MISSED") for r in self.requirements],
            )
        return all(requirement.met for requirement in self.requirements)
