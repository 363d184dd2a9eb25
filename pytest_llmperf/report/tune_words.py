"""Phrases of a search for better settings, shared by its reports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmperf.config.tune_section import EXTRA
from pytest_llmperf.config.yaml_edit import yaml_text
from pytest_llmperf.gate.words import change_words, count, effect_words, interval_words, limit_text
from pytest_llmperf.metrics import Unit, known_metric
from pytest_llmperf.tune.race import MEMORY
from pytest_llmperf.tune.result import COMPARED, Level, MetricChange, Point, Target, TuneResult
from pytest_llmperf.units import format_quantity

NOTHING = "-"
PHASES = {1: "settings", 2: "models and quantizations", 3: "neighbours of the best settings"}
#: Labels and units of quantities that are not metrics.
_LABELS, _UNITS = {MEMORY: "peak memory"}, {MEMORY: Unit.BYTES}
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")


def label(name: str, test: str = "", several: bool = False) -> str:
    """Return the metric's label, followed by its test if there are several."""
    metric = known_metric(name)
    text = metric.label if metric is not None else _LABELS.get(name, name)
    return f"{text}, {test}" if several and test else text


def quantity(name: str, value: float | None) -> str:
    """Return a level with its unit; ``-`` if it is unknown."""
    metric = known_metric(name)
    if value is None:
        return NOTHING
    unit = metric.unit if metric is not None else _UNITS.get(name)
    return f"{value:.4g}" if unit is None else format_quantity(value, unit)


def target_text(target: Target) -> str:
    """Return a limit: ``at least 60 tok/s``."""
    metric = known_metric(target.metric)
    if metric is None:
        return f"{target.limit:g}"
    side = "at least" if metric.limit_kind == "min" else "at most"
    return f"{side} {limit_text(target.limit, metric)}"


def status_text(target: Target, *, found: bool) -> str:
    """Return a target's state before and, if settings were found, after."""
    return f"{target.before} → {target.after}" if found else target.before


def change_text(change: MetricChange) -> str:
    """Return a change: ``12.0% faster``; ``-`` if it is unknown."""
    metric = known_metric(change.metric)
    if change.change is None:
        return NOTHING
    return change_words(metric, change.change)


def interval_text(change: MetricChange) -> str:
    """Return the interval: ``[11.1% to 12.9% faster]``; ``-`` if it is unknown."""
    if change.low is None or change.high is None:
        return NOTHING
    return interval_words(known_metric(change.metric), change.low, change.high)


def effect_text(change: MetricChange) -> str:
    """Return a change with its interval: ``12.0% faster [11.1% to 12.9%]``."""
    if change.change is None or change.low is None or change.high is None:
        return " ".join(one for one in (change_text(change), interval_text(change)) if one != "-")
    return effect_words(known_metric(change.metric), change.change, change.low, change.high)


def searched_for(result: TuneResult, changes: Sequence[MetricChange]) -> list[MetricChange]:
    """Return the changes of the metrics in the objective; all changes if it has none of them."""
    return [change for change in changes if change.metric in result.objective] or list(changes)


def several_tests(changes: Sequence[MetricChange | Level | Target]) -> bool:
    """Whether the metrics belong to more than one test."""
    return len({change.test for change in changes}) > 1


def point_name(number: int) -> str:
    """Return the name of a point in reports."""
    return f"#{number}" if number else "today's settings"


def verdict_text(point: Point) -> str:
    """Say whether a point was kept or rejected, and why."""
    if point.took_over:
        return "kept" if not point.reason else f"kept: {point.reason}"
    reason = point.reason or f"no improvement over {point_name(point.against)}"
    return f"rejected: {reason}"


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings in one line: ``n_batch: 512, flash_attn: true``."""
    return ", ".join(f"{key}: {yaml_text(value)}" for key, value in settings.items())


def settings_yaml(settings: Mapping[str, Any], result: TuneResult) -> list[str]:
    """Return settings as lines for ``config.yaml``, without today's own ``extra`` arguments."""
    extra = {key.removeprefix(EXTRA): v for key, v in settings.items() if key.startswith(EXTRA)}
    own = {key: v for key, v in settings.items() if not key.startswith(EXTRA)}
    lines = ["llm:", *(f"  {key}: {yaml_text(value)}" for key, value in own.items())]
    if extra:
        hidden = (result.before.settings.get("extra") or {}).keys() - extra.keys()
        lines.append(f"  extra:{'  # besides the present ones' if hidden else ''}")
        lines += [f"    {yaml_text(key)}: {yaml_text(value)}" for key, value in extra.items()]
    return lines


def without_password(storage: str) -> str:
    """Return a storage's URL with the password masked."""
    return _PASSWORD.sub(r"\1:***@", storage)


def counted_outcomes(points: Sequence[Point]) -> str:
    """Count points by outcome: ``12 combinations: 9 compared, 2 did not fit, 1 failed``."""
    phrases = {
        "does not fit": "did not fit",
        "unsupported": "not supported",
        "rejected": "over a bound",
        "failed": "failed",
        "out of time": "out of time",
    }
    numbers = {"compared": sum(point.outcome in COMPARED for point in points)}
    for outcome, phrase in phrases.items():
        numbers[phrase] = sum(point.outcome == outcome for point in points)
    parts = [f"{number} {phrase}" for phrase, number in numbers.items() if number]
    return ": ".join(filter(None, (count(len(points), "combination"), ", ".join(parts))))


def front(result: TuneResult) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Yield each point of the Pareto front: number, settings, metric -> level."""
    points = {point.number: point for point in result.points}
    for number in result.pareto:
        point = points.get(number)
        if number and point is None:
            continue
        levels = point.levels if point is not None else result.before.levels
        settings = settings_text(point.settings) if point is not None else ""
        values = {level.metric: quantity(level.metric, level.value) for level in levels}
        yield number, settings, values
