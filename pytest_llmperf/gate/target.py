"""The target strategy: an absolute limit, met or missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.protocol import verdict_of
from pytest_llmperf.gate.rules import compare, is_decidable, target_kind
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.gate.words import percent, target_words
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence
    from pytest_llmperf.metrics import Unit


class TargetStrategy:
    """Judges the median of per-process medians by the limit the test states."""

    name = "target"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """``pass``, ``missed`` or, where too little was measured, ``inconclusive``.

        None without a target, or where nothing was measured.
        """
        check = evidence.check
        numbers = compare(evidence)
        if check.limit is None or numbers.current is None:
            return None
        value = numbers.current.value
        kind = target_kind(check, numbers.current)
        sides = f"{_told_apart(value, check.limit, check.metric.unit)}, must be"
        if kind is VerdictKind.PASS:
            text = f"target met: {sides} {target_words(check)}"
        else:
            # A limit of zero can't be missed by a share of itself.
            short = check.metric.slowdown(value, check.limit) if check.limit > 0 else None
            by = "" if short is None else f" by {_miss(short)}"
            text = f"target missed{by}: {sides} {target_words(check)}"
        if not is_decidable(evidence):
            kind, text = VerdictKind.INCONCLUSIVE, f"so far {text}"
        return verdict_of(self.name, kind, evidence, numbers, text)


def _miss(slowdown: float) -> str:
    """How far off: ``20%``, or ``a factor of 9.15`` where a percentage would be hard to read."""
    if slowdown < 1:
        return percent(slowdown)
    factor = 1 + slowdown
    return f"a factor of {factor:.3g}" if factor < 1000 else f"a factor of {factor:,.0f}"


def _told_apart(value: float, limit: float, unit: Unit) -> str:
    """Print ``value`` with as many digits as it takes to differ from the printed limit."""
    for precision in range(3, 8):
        text = format_quantity(value, unit, precision)
        if text != format_quantity(limit, unit, precision):
            break
    return text
