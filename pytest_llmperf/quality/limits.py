"""Limits on quality and verdicts by them: the interval decides, never the value alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.check import Check
from pytest_llmperf.gate.verdict import Reason, Verdict, VerdictKind
from pytest_llmperf.gate.words import target_words
from pytest_llmperf.metric_types import Direction, Metric, Unit
from pytest_llmperf.own_metrics import not_in_runs
from pytest_llmperf.stats.summary import Summary
from pytest_llmperf.units import format_quantity, format_with_interval

if TYPE_CHECKING:
    from pytest_llmperf.quality.figures import Interval, QualityResult

STRATEGY = "quality"
#: Tolerance of a check that has only a limit.
_NONE = 0.0


def _metric(name: str, label: str, unit: Unit, direction: Direction, formula: str) -> Metric:
    source = "docs/quality.md"
    return Metric(name, label, unit, direction, name, formula, source, not_in_runs, compared=False)


#: The gated figures by the marker's arguments, in the order of display. They are not sampled in
#: several processes, so they are not in the metric registry.
FIGURES = {
    "max_kl": _metric(
        "kl_divergence",
        "KL divergence",
        Unit.NATS,
        Direction.LOWER,
        "mean over positions of the sum of p ln(p / q), p the reference's probabilities",
    ),
    "max_perplexity_increase": _metric(
        "perplexity_increase",
        "perplexity increase",
        Unit.RATIO,
        Direction.LOWER,
        "perplexity / the reference's perplexity - 1",
    ),
    "min_top1": _metric(
        "top1_agreement",
        "same top token",
        Unit.RATIO,
        Direction.HIGHER,
        "share of positions at which both find the same token most likely",
    ),
}


@dataclass(frozen=True)
class QualityLimits:
    """The quality limits that a test's marker sets.

    Attributes:
        max_kl: largest mean divergence, nats, or None.
        max_perplexity_increase: a fraction, or None.
        min_top1: smallest share of equal top tokens, or None.
    """

    max_kl: float | None = None
    max_perplexity_increase: float | None = None
    min_top1: float | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """A check for each limit that is given."""
        return tuple(
            Check(metric, getattr(self, name), _NONE)
            for name, metric in FIGURES.items()
            if getattr(self, name) is not None
        )


def summary_of(check: Check, result: QualityResult) -> Summary:
    """Summarise a figure and its interval as for other metrics, with its tokens as iterations."""
    value, interval = _figure(check, result)
    low, high = (None, None) if interval is None else interval
    return Summary(value, low, high, 1, result.tokens)


def judge(check: Check, result: QualityResult) -> Verdict:
    """Judge one figure by its limit: pass, missed, or inconclusive if the interval contains it."""
    limit = check.limit
    assert limit is not None
    value, interval = _figure(check, result)
    shown = f"{_shown(check, value, interval)}, must be {target_words(check)}"
    kind = VerdictKind.INCONCLUSIVE
    if interval is not None:
        low, high = interval
        if check.metric.direction is Direction.HIGHER:
            low, high, limit = -high, -low, -limit
        if high <= limit:
            kind = VerdictKind.PASS
        elif low > limit:
            kind = VerdictKind.MISSED
    claim = {
        VerdictKind.PASS: f"quality kept: {shown}",
        VerdictKind.MISSED: f"quality lost: {shown}",
    }.get(kind) or f"{shown}; {_needed(check, result)}"
    facts = (f"{result.tokens:,} positions, compared with {result.reference}",)
    return _verdict(check, kind, claim, facts)


def failed(check: Check, text: str) -> Verdict:
    """Return the verdict on a figure that could not be measured."""
    return _verdict(check, VerdictKind.ERROR, f"quality could not be measured: {text}", ())


def figure_lines(result: QualityResult) -> Iterator[str]:
    """Describe a result: what was compared, and all figures."""
    yield (
        f"quality of {result.candidate} compared with {result.reference}, "
        f"{result.tokens:,} positions: perplexity {result.perplexity:.4g} "
        f"(reference {result.reference_perplexity:.4g}), "
        + ", ".join(
            f"{metric.label} {_shown(check, *_figure(check, result))}"
            for metric in FIGURES.values()
            for check in [Check(metric, None, _NONE)]
        )
        + f", greedy answers agree for {result.greedy_agreement:.3g} of "
        f"{result.greedy_tokens:.3g} tokens"
    )
    yield from result.notes


def _verdict(check: Check, kind: VerdictKind, claim: str, facts: Sequence[str]) -> Verdict:
    text = "; ".join([claim, *facts])
    reasons = (Reason(kind, STRATEGY, claim, text),)
    return Verdict(kind, check, None, text, STRATEGY, claim, tuple(facts), reasons=reasons)


def _figure(check: Check, result: QualityResult) -> tuple[float, Interval]:
    figures: dict[str, tuple[float, Interval]] = {
        "kl_divergence": (result.kl, result.kl_interval),
        "perplexity_increase": (result.perplexity_increase, result.perplexity_interval),
        "top1_agreement": (result.top1, result.top1_interval),
    }
    return figures[check.metric.name]


def _shown(check: Check, value: float, interval: Interval) -> str:
    if interval is None:
        return format_quantity(value, check.metric.unit)
    return format_with_interval(value, *interval, check.metric.unit)


def _needed(check: Check, result: QualityResult) -> str:
    """Say how much more text would decide: an interval narrows with the square root of it."""
    value, interval = _figure(check, result)
    remedy = "give the test more prompts or longer answers, or name a text in quality.text"
    if interval is None:
        return f"{result.tokens} positions are too few for an interval: {remedy}"
    assert check.limit is not None
    distance = abs(check.limit - value)
    half = (interval[1] - interval[0]) / 2
    factor = (half / distance) ** 2 if distance > 0 else math.inf
    if factor > 1000:
        return f"the limit is the measured value itself, which no amount of text decides: {remedy}"
    # The estimate comes from one sample, so half as much is added.
    needed = math.ceil(1.5 * factor * result.tokens / 100) * 100
    return f"about {needed:,} positions instead of {result.tokens:,} would decide: {remedy}"
