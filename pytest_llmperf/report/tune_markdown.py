"""The result of a search for better settings, as a Markdown document for users to keep."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.report.tune_words import (
    NOTHING,
    PHASES,
    change_text,
    counted_outcomes,
    effect_text,
    front,
    interval_text,
    label,
    point_name,
    quantity,
    searched_for,
    settings_text,
    settings_yaml,
    several_tests,
    status_text,
    target_text,
    verdict_text,
    without_password,
)
from pytest_llmperf.text import display_width, pad, printable
from pytest_llmperf.tune.result import COMPARED
from pytest_llmperf.units import format_duration

if TYPE_CHECKING:
    from pytest_llmperf.tune.result import Point, TuneResult

#: The name that users give the file.
FILE_NAME = "BENCHMARK_RESULTS_SUMMARY.md"
#: Characters with a meaning in Markdown, HTML or a table, in the places where they have it.
_SPECIAL = re.compile(
    r"[\\`*|<&~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis
    r"|\[(?![-+\d])|\](?=[(\[:])"  # a link
    r"|^[#>+=-]"  # a heading, a quotation, a list
)
_NUMBERED = re.compile(r"^(\d+)([.)])")


def render_markdown(result: TuneResult, *, date: str, command: str = "") -> str:
    """Write the whole search as a document.

    Args:
        result: result of the search.
        date: date of the search, such as ``2026-11-28``.
        command: command that repeats it; if empty, that section is left out.
    """
    parts = [
        "# Benchmark results",
        f"**{_sentence(result.conclusion)}**",
        _about(result, date),
        *_targets(result),
        *_tried(result),
        *_not_compared(result),
        *_winner(result),
        *_gain(result),
        *_trade_offs(result),
        *_repeat(result, command),
        *_notes(result),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Escape text for Markdown, including table cells."""
    shown = _SPECIAL.sub(lambda match: f"\\{match[0]}", printable(" ".join(text.split())))
    return _NUMBERED.sub(r"\1\\\2", shown)


def code(text: str, *, cell: bool = False) -> str:
    """Return text as code; vertical bars are escaped only in a table's ``cell``."""
    shown = printable(text)
    if cell:
        shown = shown.replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    ticks, space = "`" * (longest + 1), " " if longest else ""
    return f"{ticks}{space}{shown}{space}{ticks}"


def _sentence(text: str) -> str:
    shown = escape(text)
    return shown[:1].upper() + shown[1:]


def _about(result: TuneResult, date: str) -> str:
    line = (
        f"Machine {code(result.machine)}, model {escape(result.model)}, "
        f"engine {escape(result.engine)}, {escape(date)}."
    )
    if len(result.workload) == 1:
        return f"{line} Workload: {escape(result.workload[0])}."
    return "\n".join([f"{line} Workload:", "", *(f"- {escape(text)}" for text in result.workload)])


def _targets(result: TuneResult) -> Iterator[str]:
    yield "## Targets"
    if not result.targets:
        yield "No targets are set."
        return
    has_winner, several = result.winner is not None, several_tests(result.targets)
    header = ["metric", "current", "target", *(["new"] if has_winner else []), "status"]
    yield table(
        header,
        [
            [
                escape(label(target.metric, target.test, several)),
                quantity(target.metric, target.value_before),
                target_text(target),
                *([quantity(target.metric, target.value_after)] if has_winner else []),
                status_text(target, found=has_winner),
            ]
            for target in result.targets
        ],
    )


def _tried(result: TuneResult) -> Iterator[str]:
    yield "## What was tried"
    time = f"{format_duration(result.seconds)} of a {format_duration(result.budget)} budget"
    stopped = "; the search was interrupted" if result.interrupted else ""
    yield f"Tried {counted_outcomes(result.points)}. Measured for {time}{stopped}."
    compared = [point for point in result.points if point.outcome in COMPARED]
    if compared:
        yield (
            "Each combination ran in pairs with the best one so far; in brackets is the 95% "
            "interval."
        )
    for phase, name in PHASES.items():
        if points := [point for point in compared if point.phase == phase]:
            yield f"### Phase {phase}: {name}"
            yield table(
                ["#", "setting changed", "compared with", "result", "pairs", "outcome"],
                [_point(point, result) for point in points],
            )


def _point(point: Point, result: TuneResult) -> list[str]:
    changes = searched_for(result, point.metrics)
    several = several_tests(changes)
    effects = [
        f"{escape(label(change.metric, change.test, several))} {effect_text(change) or NOTHING}"
        for change in changes
    ]
    return [
        str(point.number),
        _settings(settings_text(point.settings)),
        point_name(point.against),
        "; ".join(effects) or NOTHING,
        str(point.pairs),
        escape(verdict_text(point)),
    ]


def _settings(text: str) -> str:
    return code(text, cell=True) if text else NOTHING


def _not_compared(result: TuneResult) -> Iterator[str]:
    points = [point for point in result.points if point.outcome not in COMPARED]
    if points:
        yield "## What did not fit or failed"
        yield table(
            ["#", "setting changed", "outcome", "reason"],
            [
                [
                    str(point.number),
                    _settings(settings_text(point.settings)),
                    point.outcome,
                    escape(point.reason) or NOTHING,
                ]
                for point in points
            ],
        )


def _winner(result: TuneResult) -> Iterator[str]:
    yield "## Settings to use"
    if result.winner is None:
        yield "Today's settings: no improvement was proven."
        return
    yield _block("yaml", [printable(line) for line in settings_yaml(result.winner.changed, result)])


def _gain(result: TuneResult) -> Iterator[str]:
    yield "## Confirmed gain"
    confirmed = result.confirmed
    if confirmed is None:
        yield "No proven improvement: no combination looked better than today's settings."
        return
    yield f"{_sentence(confirmed.text)}."
    changes = [gain.change for gain in confirmed.gains]
    several = several_tests(changes)
    if confirmed.gains:
        yield table(
            ["metric", "current", "new", "change", "95% interval", "verdict"],
            [
                [
                    escape(label(gain.change.metric, gain.change.test, several)),
                    quantity(gain.change.metric, gain.change.against),
                    quantity(gain.change.metric, gain.change.value),
                    change_text(gain.change),
                    interval_text(gain.change),
                    escape(gain.verdict),
                ]
                for gain in confirmed.gains
            ],
        )
    yield (
        f"Measured in {count(confirmed.pairs, 'pair')} of fresh processes, the winner and today's "
        "settings in turn. If no setting were better, a search would still prove an improvement "
        f"in at most {percent(confirmed.false_alarms)} of cases (the false-alarm rate)."
    )


def _trade_offs(result: TuneResult) -> Iterator[str]:
    points = list(front(result))
    if len(points) > 1 and len(result.pareto_metrics) > 1:
        yield "## Trade-offs"
        yield "No other combination is better than one of these in every column."
        yield table(
            ["#", *(escape(label(name)) for name in result.pareto_metrics), "setting changed"],
            [
                [
                    str(number) if number else "today",
                    *(values.get(name, NOTHING) for name in result.pareto_metrics),
                    _settings(settings),
                ]
                for number, settings, values in points
            ],
        )


def _repeat(result: TuneResult, command: str) -> Iterator[str]:
    if command:
        yield "## How to repeat it"
        yield _block("sh", [printable(command)])
        storage = without_password(result.storage)
        yield f"Study {code(result.study)} in {code(storage)}, seed {result.seed}."


def _notes(result: TuneResult) -> Iterator[str]:
    if result.notes:
        yield "## Notes"
        yield "\n".join(f"- {escape(note)}" for note in result.notes)


def _block(language: str, lines: Sequence[str]) -> str:
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table with columns padded to their widest cell, except the last column."""
    widths = [
        max(3, *(display_width(row[at]) for row in (header, *rows)))
        for at in range(len(header) - 1)
    ]

    def line(cells: Sequence[str]) -> str:
        padded = [pad(cell, width) for cell, width in zip(cells, widths, strict=False)]
        return f"| {' | '.join([*padded, cells[-1]])} |"

    rule = ["-" * width for width in widths]
    return "\n".join([line(header), line([*rule, "---"]), *map(line, rows)])
