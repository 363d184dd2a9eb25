"""The result of a search for better settings, as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.report.cells import table_or_lines
from pytest_llmperf.report.tune_words import (
    NOTHING,
    counted_outcomes,
    effect_text,
    front,
    label,
    quantity,
    settings_yaml,
    several_tests,
    status_text,
    target_text,
)
from pytest_llmperf.text import printable, wrap_words
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.tune.result import TuneResult

_LABEL = 9


def render(result: TuneResult, width: int = 80) -> list[str]:
    """Draw the result for a terminal ``width`` columns wide; one string per line."""
    lines = wrap_words(result.conclusion, width)
    facts = [("machine", result.machine), ("model", result.model), ("engine", result.engine)]
    facts += [("workload", line) for line in result.workload]
    facts.append(("tried", counted_outcomes(result.points)))
    facts.append(("time", _time(result)))
    for name, text in facts:
        lines += wrap_words(text, width, indent=" " * _LABEL, first=name.ljust(_LABEL))
    lines += _targets(result, width)
    lines += _gains(result, width)
    lines += _front(result, width)
    if result.winner is not None:
        settings = settings_yaml(result.winner.changed, result)
        lines += ["", "settings to use", *map(printable, settings)]
    for note in result.notes:
        lines += wrap_words(note, width, first="note: ")
    return lines


def _time(result: TuneResult) -> str:
    text = f"{format_duration(result.seconds)} of a {format_duration(result.budget)} budget"
    return f"{text}; interrupted" if result.interrupted else text


def _targets(result: TuneResult, width: int) -> list[str]:
    if not result.targets:
        return []
    several, has_winner = several_tests(result.targets), result.winner is not None
    header = ["metric", "target", "now", *(["new"] if has_winner else []), "status"]
    rows = [
        [
            label(target.metric, target.test, several),
            target_text(target),
            quantity(target.metric, target.value_before),
            *([quantity(target.metric, target.value_after)] if has_winner else []),
            status_text(target, found=has_winner),
        ]
        for target in result.targets
    ]
    return ["", "targets", *table_or_lines(header, rows, width)]


def _gains(result: TuneResult, width: int) -> list[str]:
    confirmed = result.confirmed
    if confirmed is None:
        return []
    changes = [gain.change for gain in confirmed.gains]
    several = several_tests(changes)
    rows = [
        [
            label(gain.change.metric, gain.change.test, several),
            quantity(gain.change.metric, gain.change.against),
            quantity(gain.change.metric, gain.change.value),
            effect_text(gain.change) or NOTHING,
            "yes" if gain.proven else "no",
        ]
        for gain in confirmed.gains
    ]
    header = ["metric", "now", "new", "change [95% interval]", "proven"]
    about = (
        f"final comparison, {count(confirmed.pairs, 'pair')} of fresh processes (chance of a "
        f"false gain: at most {percent(confirmed.false_alarms)})"
    )
    return ["", *wrap_words(about, width), *table_or_lines(header, rows, width)]


def _front(result: TuneResult, width: int) -> list[str]:
    points = list(front(result))
    if len(points) < 2 or len(result.pareto_metrics) < 2:
        return []
    header = ["point", *(label(name) for name in result.pareto_metrics), "settings"]
    rows = [
        [
            f"#{number}" if number else "today",
            *(values.get(name, NOTHING) for name in result.pareto_metrics),
            settings or NOTHING,
        ]
        for number, settings, values in points
    ]
    return ["", "no other point is better in all of these", *table_or_lines(header, rows, width)]
