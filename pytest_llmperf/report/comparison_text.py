"""A comparison of stored sessions for a terminal: the gate's table and a closing of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.report.cells import paint, verdict_style
from pytest_llmperf.report.comparison_remarks import (
    base_files,
    headline,
    interleaved_command,
    recorded_differences,
    remarks,
)
from pytest_llmperf.report.footer import footer
from pytest_llmperf.report.table import render_table
from pytest_llmperf.text import pack, printable, wrap_node_id, wrap_words

if TYPE_CHECKING:
    from pytest_llmperf.compare.result import ComparisonResult

_INDENT = "    "


def render_comparison(result: ComparisonResult, width: int = 80, color: bool = False) -> list[str]:
    """Draw a comparison for a terminal ``width`` columns wide; one string per line.

    Everything down to the legend is the gate's table. Its closing lines are about a session
    that was just measured, so a comparison has other ones.
    """
    lines = render_table(result.session, width, color)
    closing = footer(result.session, max(20, width), color)
    if lines[-len(closing) :] == closing:
        lines = lines[: -len(closing)]
    return [*lines, *_closing(result, max(20, width), color)]


def _closing(result: ComparisonResult, width: int, color: bool) -> list[str]:
    items = headline(result).split(", ")
    lines = pack([f"{item}," for item in items[:-1]] + items[-1:], width, _INDENT, joint=" ")
    if result.kinds and color:
        style = verdict_style(next(iter(result.kinds)))
        lines = [paint(line, style, color) for line in lines]
    for text in remarks(result):
        lines += wrap_words(text, width)
    command = interleaved_command(result)
    if command is not None:
        sharper = "both sides in one session decide most sharply; where the judged code lies:"
        lines += [*wrap_words(sharper, width), _INDENT + printable(command)]
    for text in base_files(result):
        lines += wrap_words(text, width, first="base: ", indent=_INDENT)
    for text in recorded_differences(result):
        lines += wrap_words(text, width, first="differs from the base: ")
    for word, nodeids in (("added", result.added), ("removed", result.removed)):
        if nodeids:
            only = result.candidate if word == "added" else result.base
            lines += wrap_words(f"{word}, only in {only}:", width)
            for nodeid in nodeids:
                first, *rest = wrap_node_id(nodeid, width - 2)
                lines += [f"  {first}", *(f"  {line}" for line in rest)]
    return lines
