"""Phrases shared by explanations and reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmperf.metrics import Unit
from pytest_llmperf.text import count as count
from pytest_llmperf.text import plural as plural
from pytest_llmperf.units import format_duration, format_quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.gate.check import Check, Evidence
    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.metrics import Metric

_NO_SIZE = "0.0%"
_SPEEDS = frozenset({Unit.SECONDS, Unit.TOKENS_PER_SECOND, Unit.PER_SECOND})


def change_words(metric: Metric | None, change: float) -> str:
    """Put a size of change in words: ``5.5% slower``, ``0.4% faster``, ``no change``.

    All reports and explanations write sizes of change with this function and ``interval_words``.

    Args:
        metric: the metric; None if the package that provides it is not installed.
        change: the change as a fraction; positive is worse.
    """
    if not math.isfinite(change):
        return "unknown"
    size = _size(change)
    return "no change" if size == _NO_SIZE else f"{size} {side_word(metric, change)}"


def interval_words(metric: Metric | None, low: float, high: float) -> str:
    """Describe an interval: ``[1.2% faster to 2.4% slower]``, ``[1.2% to 2.4% slower]``."""
    first, last = change_words(metric, low), change_words(metric, high)
    if first == last:
        return f"[{first}]"
    if low * high > 0 and _NO_SIZE not in (_size(low), _size(high)):
        # Both on one side: the smaller size first, as a reader would say it.
        least, largest = sorted((low, high), key=abs)
        return f"[{_size(least)} to {change_words(metric, largest)}]"
    return f"[{first} to {last}]"


def _size(change: float) -> str:
    size = abs(change)
    if size >= 10:
        return "unknown" if not math.isfinite(size) else "over 1000%"
    return f"{size:.1%}" if size < 0.9995 else f"{size:.0%}"


def side_word(metric: Metric | None, change: float) -> str:
    """Return ``slower`` or ``faster``; for metrics that are not speeds, ``worse`` or ``better``."""
    if metric is not None and metric.unit in _SPEEDS:
        return "slower" if change > 0 else "faster"
    return "worse" if change > 0 else "better"


def limit_text(limit: float, metric: Metric) -> str:
    """Format a limit without trailing zeros: ``60 tok/s``, ``2.5 s``."""
    number, space, unit = format_quantity(limit, metric.unit, precision=6).partition(" ")
    number, sign = number.removesuffix("%"), "%" if number.endswith("%") else ""
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number}{sign}{space}{unit}"


def target_words(check: Check) -> str:
    """Put the target in words: ``at least 60 tok/s``; empty without a target."""
    if check.limit is None:
        return ""
    side = "at least" if check.metric.limit_kind == "min" else "at most"
    return f"{side} {limit_text(check.limit, check.metric)}"


def percent(fraction: float) -> str:
    """Format a share without trailing zeros: ``5%``, ``2.5%``, ``0.02%``."""
    share = fraction * 100
    text = f"{share:.1f}" if abs(share) >= 0.1 else f"{share:.1g}"
    return f"{text.removesuffix('.0')}%"


def listed(items: Sequence[str]) -> str:
    """Join items for a sentence: ``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def evidence_words(log_evidence: float) -> str:
    """Put evidence in words, as odds: ``evidence 35:1``, ``evidence 21.5 million:1``."""
    return f"evidence {odds(log_evidence)}"


def needed_words(log_threshold: float, purpose: str = "") -> str:
    """Name the evidence that a verdict needs: ``20:1 needed to pass``."""
    return f"{odds(log_threshold)} needed {purpose}".rstrip()


def odds(log_evidence: float) -> str:
    """Format a logarithm as odds, three digits: ``35:1``, ``6,030:1``, ``over a billion:1``."""
    if log_evidence > math.log(1e9):
        return "over a billion:1"
    ratio = math.exp(log_evidence)
    if ratio >= 1e6:
        return f"{ratio / 1e6:.3g} million:1"
    return f"{float(f'{ratio:.3g}'):,.0f}:1" if ratio >= 10 else f"{ratio:.2g}:1"


def chance_words(log_evidence: float, log_threshold: float) -> str:
    """Explain ln(1/p) and its threshold: ``by chance once in 4,320; at most once in 200 ...``."""
    rare, asked = (math.exp(min(log, 300.0)) for log in (log_evidence, log_threshold))
    shown = f"{float(f'{rare:.3g}'):,.0f}" if rare < 1_000_000 else "over a million"
    return f"by chance once in {shown}; at most once in {asked:,.0f} required"


def effect_words(metric: Metric | None, effect: float, low: float, high: float) -> str:
    """Put a size of change and its interval in words: ``0.2% slower [0.9% faster to 1.3% slower]``.

    A direction that all share is written once: ``5.2% slower [3.4% to 7.0%]``.
    """
    known, interval = change_words(metric, effect), interval_words(metric, low, high)
    side = f" {side_word(metric, effect)}"
    if " to " in interval and known.endswith(side) and min(low * effect, high * effect) > 0:
        interval = interval.replace(side, "")
    return f"{known} {interval}"


def open_words(verdict: Verdict) -> str:
    """Describe an undecided metric so far, against its tolerance or its target.

    For example, ``tokens/s 0.4% slower [1.2% faster to 2.0% slower], tolerance 5%``.
    """
    check, proof = verdict.check, verdict.proof
    if proof is None or proof.effect is None:
        return check.metric.label
    known = change_words(check.metric, proof.effect)
    if proof.low is not None and proof.high is not None:
        known = effect_words(check.metric, proof.effect, proof.low, proof.high)
    if verdict.strategy == "target":
        return f"{check.metric.label} against its target: {known}"
    return f"{check.metric.label} {known}, tolerance {percent(check.tolerance)}"


def at_most(bound: float, metric: Metric) -> str:
    """Name the 95% bound that a pass proves: ``at most 1.8% slower``, ``at least 0.3% faster``."""
    return f"at {'most' if bound > 0 else 'least'} {_size(bound)} {side_word(metric, bound)}"


def sensitivity_words(metric: Metric, passes_up_to: float, calls_from: float) -> str:
    """Describe a sensitivity: ``passes up to 1.9% slower, regressed from 6.2% slower``."""
    side = side_word(metric, passes_up_to)
    condition = "up to" if passes_up_to > 0 else "only from"
    passes = f"passes {condition} {_size(passes_up_to)} {side}"
    return f"{passes}, regressed from {change_words(metric, calls_from)}"


def more_words(more: int | None, seconds: float | None, noun: str) -> str:
    """Say how many more samples would decide: ``about 12 more pairs (2 min) would decide``."""
    if more is None:
        return f"even hundreds more {plural(noun)} would not decide at this rate"
    time = f" ({format_duration(more * seconds)})" if seconds else ""
    return f"about {count(more, f'more {noun}')}{time} would decide"


def too_few(evidence: Evidence, done: int, fewest: int, noun: str) -> str:
    """Say that samples are missing: ``2 pairs measured, 3 are needed to judge``."""
    measured = f"{count(done, noun)} measured {within(evidence)}".rstrip()
    return f"{measured}, {fewest} are needed to judge"


def sample_noun(evidence: Evidence) -> str:
    """Return the noun for one sample of a check: ``process``, ``pair``, ``group of pairs``."""
    paired, grouped = evidence.pairs is not None, evidence.check.metric.kind == "percentile"
    if grouped:
        # A group has enough processes to measure that far into the tail.
        return f"group of {'pairs' if paired else plural(evidence.unit)}"
    return "pair" if paired else evidence.unit


def sample_facts_words(evidence: Evidence) -> list[str]:
    """List facts about the samples of a verdict: their number, stalls, and samples left out."""
    pairs, noun = evidence.pairs, sample_noun(evidence)
    if pairs is not None:
        seen = [f"{count(len(pairs.base), noun)} with {pairs.name}"]
    else:
        seen = [count(len(evidence.samples), noun)]
    if sum(evidence.stalls):
        stalled = count(sum(evidence.stalls), "stalled iteration")
        seen.append(
            stalled if pairs is None else f"{stalled} ({evidence.stalls[0]} of the candidate)"
        )
    if evidence.void:
        seen.append(
            f"{count(evidence.void, 'invalid ' + ('pair' if pairs else evidence.unit))} left out"
        )
    return seen


def undecided(evidence: Evidence) -> str:
    """Say that no verdict was reached: ``not decided within the 10 min budget``."""
    ended = within(evidence)
    if evidence.ended and not ended:
        # Another metric of the test regressed, which ends the measuring of all of them.
        ended = "when measuring ended"
    return f"not decided {ended}".rstrip()


def within(evidence: Evidence) -> str:
    """Say what ended the measuring early: ``within the 10 min budget``; empty if nothing did."""
    if evidence.budget_reached:
        length = (
            "time" if evidence.budget_seconds is None else format_duration(evidence.budget_seconds)
        )
        return f"within the {length} budget"
    if not evidence.exhausted:
        return "before the session was interrupted" if evidence.interrupted else ""
    noun = plural(evidence.unit) if evidence.pairs is None else "pairs"
    return f"within the maximum number of {noun}"
