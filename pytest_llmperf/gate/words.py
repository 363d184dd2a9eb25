"""The phrases that explanations and reports share, so that one thing is said one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.metrics import Unit
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.metrics import Metric

_SPEEDS = frozenset({Unit.SECONDS, Unit.TOKENS_PER_SECOND})


def change_words(metric: Metric, change: float) -> str:
    """A slowdown in words: ``5.5% slower``, ``0.4% faster``, ``no change``."""
    size = f"{abs(change):.1%}"
    if size == "0.0%":
        return "no change"
    if metric.unit in _SPEEDS:
        return f"{size} {'slower' if change > 0 else 'faster'}"
    return f"{size} {'worse' if change > 0 else 'better'}"


def limit_text(limit: float, metric: Metric) -> str:
    """A limit as its author would write it, without needless zeros: ``60 tok/s``, ``2.5 s``."""
    number, space, unit = format_quantity(limit, metric.unit, precision=6).partition(" ")
    number, sign = number.removesuffix("%"), "%" if number.endswith("%") else ""
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number}{sign}{space}{unit}"


def target_words(check: Check) -> str:
    """The target in words: ``at least 60 tok/s``; empty without a target."""
    if check.limit is None:
        return ""
    side = "at least" if check.metric.limit_kind == "min" else "at most"
    return f"{side} {limit_text(check.limit, check.metric)}"


def percent(fraction: float) -> str:
    """A share without needless digits: ``5%``, ``2.5%``, ``0.02%``."""
    share = fraction * 100
    text = f"{share:.1f}" if abs(share) >= 0.1 else f"{share:.1g}"
    return f"{text.removesuffix('.0')}%"


def count(number: int, noun: str) -> str:
    """A count with its noun: ``1 process``, ``3 processes``, ``2 checks``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"


def span(seconds: float) -> str:
    """A stretch of time: ``18 s``, ``4.2 s``, ``10 min``, ``1 min 30 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def listed(items: Sequence[str]) -> str:
    """Items as in a sentence: ``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
