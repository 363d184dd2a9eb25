"""Renders the result of a search for better settings as text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import change_words, count, effect_words, limit_text
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.text import wrap_words
from pytest_llmperf.tune.space import shown
from pytest_llmperf.units import format_duration, format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.tune.result import Gain, Point, Target, TuneResult


def render(result: TuneResult, width: int = 100) -> list[str]:
    """Return the lines to print: the conclusion first, then what it rests on."""
    lines = [*wrap_words(result.conclusion, width, indent="  ")]
    if result.winner is not None:
        lines += ["", "settings to use (llm):"]
        lines += [f"  {shown({key: value})}" for key, value in result.winner.changed.items()]
    if result.confirmed is not None:
        lines += ["", "against today's configuration, in fresh pairs:"]
        lines += [f"  {line}" for line in map(_gain, result.confirmed.gains) if line]
    if result.targets:
        lines += ["", "targets:", *(f"  {_target(one)}" for one in result.targets)]
    lines += ["", *_points(result)]
    lines += [line for one in result.notes for line in wrap_words(f"note: {one}", width)]
    return lines


def _gain(gain: Gain) -> str:
    change = gain.change
    metric = get_metric(change.metric)
    if change.change is None:
        return f"{metric.label}: {gain.verdict}"
    if change.low is None or change.high is None:
        words = change_words(metric, change.change)
    else:
        words = effect_words(metric, change.change, change.low, change.high)
    levels = ""
    if change.value is not None and change.against is not None:
        levels = " -> ".join(
            format_quantity(one, metric.unit) for one in (change.against, change.value)
        )
    return f"{metric.label}: {levels}, {words} ({gain.verdict})"


def _target(target: Target) -> str:
    metric = get_metric(target.metric)
    side = "at least" if metric.limit_kind == "min" else "at most"
    return (
        f"{metric.label} {side} {limit_text(target.limit, metric)}: "
        f"{target.before} before, {target.after} after"
    )


def _points(result: TuneResult) -> Iterator[str]:
    kinds = Counter(one.outcome for one in result.points)
    parts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    yield (
        f"{count(len(result.points), 'point')}{f' ({parts})' if parts else ''} in "
        f"{format_duration(result.seconds)} of {format_duration(result.budget)}; "
        f"study {result.study}"
    )
    for one in result.points:
        yield f"  {_point(one, result)}"


def _point(point: Point, result: TuneResult) -> str:
    front = " *" if point.number in result.pareto else ""
    outcome = "the best then" if point.took_over else point.outcome
    why = f": {point.reason}" if point.reason else ""
    return f"{point.number}{front} {shown(point.settings)}: {outcome}{why}"
