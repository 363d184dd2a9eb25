"""A comparison of stored sessions for a terminal: the gate's table, and what closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.combine import checks
from pytest_llmperf.gate.verdict import UNCOMPARED, VerdictKind
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.report.cells import paint, verdict_style
from pytest_llmperf.report.footer import footer
from pytest_llmperf.report.table import render_table
from pytest_llmperf.text import pack, printable, shell_word, wrap_node_id, wrap_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.report.comparison import ComparisonView

_INDENT = "    "
#: More baseline files than this are named by the first and the last of them.
_FILES = 3


def render_comparison(view: ComparisonView, width: int = 80, color: bool = False) -> list[str]:
    """Draw a comparison for a terminal ``width`` columns wide; one string per line.

    Everything down to the legend is the gate's table. What closes it there speaks of a
    session that was just measured, so that part is another one here.
    """
    lines = render_table(view.session, width, color)
    closing = footer(view.session, max(20, width), color)
    if lines[-len(closing) :] == closing:
        lines = lines[: -len(closing)]
    return [*lines, *_closing(view, max(20, width), color)]


def headline(view: ComparisonView) -> str:
    """What came out, in one line: ``3 tests, 9 checks: 1 regressed, 8 pass``."""
    kinds = view.kinds
    tests = count(len(view.session.tests), "test")
    if not kinds:
        return f"{tests}: nothing was judged"
    counted = ", ".join(f"{number} {kind.value}" for kind, number in kinds.items())
    return f"{tests}, {count(sum(kinds.values()), 'check')}: {counted}"


def remarks(view: ComparisonView) -> Iterator[str]:
    """What a reader should know beside the verdicts, a sentence each."""
    found = [verdict for test in view.session.tests for verdict in checks(test.verdicts)]
    if any(verdict.change is not None for verdict in found):
        yield (
            "chance of any false regressed in this comparison: "
            f"{percent(view.session.false_alarms)} at most"
        )
    undecided = [verdict for verdict in found if verdict.kind is VerdictKind.INCONCLUSIVE]
    if undecided:
        fails = "fails, as --strict asks" if view.strict else "passes; with --strict it fails"
        yield (
            f"{count(len(undecided), 'check')} inconclusive: neither a slowdown nor its absence is "
            f"proven ({fails})"
        )
        # What a report's own session left undecided rests on no stored sessions.
        if here := [verdict for verdict in undecided if verdict.proof is not None]:
            yield from _what_would_decide(here)
    if any(verdict.kind in UNCOMPARED for verdict in found):
        yield "what has another workload, or no baseline, is shown and not judged"


def _what_would_decide(undecided: list[Verdict]) -> Iterator[str]:
    needed = [verdict.proof.more if verdict.proof else None for verdict in undecided]
    known = [more for more in needed if more is not None]
    if len(known) == len(needed):
        yield f"about {count(max(known), 'more recorded session')} of the base would, if alike"
    else:
        yield "more recorded sessions would narrow it, but not decide it as things stand"


def interleaved_command(view: ComparisonView) -> str | None:
    """What measures both sides in one session, the judged one being checked out; or None."""
    undecided = {VerdictKind.INCONCLUSIVE, VerdictKind.REGRESSED} & set(view.kinds)
    if view.against is None or not undecided:
        return None
    return f"pytest -m perf --llmperf-against {shell_word(view.against)}"


def sources_in_words(view: ComparisonView) -> Iterator[str]:
    """The files of the base that were compared with: each, or the first and the last of many."""
    sources = [source for source in view.session.baseline_sources if source != view.base]
    if len(sources) <= _FILES:
        yield from sources
    else:
        first, last = sources[0], sources[-1]
        yield f"{count(len(sources), 'session')}, {first} to {last}"


def differing(view: ComparisonView) -> list[str]:
    """What differs besides speed, each once over all tests."""
    return list(dict.fromkeys(d for test in view.session.tests for d in test.differences))


def _closing(view: ComparisonView, width: int, color: bool) -> list[str]:
    items = headline(view).split(", ")
    lines = pack([f"{item}," for item in items[:-1]] + items[-1:], width, _INDENT, joint=" ")
    if view.kinds and color:
        style = verdict_style(next(iter(view.kinds)))
        lines = [paint(line, style, color) for line in lines]
    for text in remarks(view):
        lines += wrap_words(text, width)
    command = interleaved_command(view)
    if command is not None:
        sharper = "both sides in one session decide most sharply; where the judged code lies:"
        lines += [*wrap_words(sharper, width), _INDENT + printable(command)]
    for text in sources_in_words(view):
        lines += wrap_words(text, width, first="base: ", indent=_INDENT)
    for text in differing(view):
        lines += wrap_words(text, width, first="differs from the base: ")
    for word, nodeids in (("added", view.added), ("removed", view.removed)):
        if nodeids:
            only = view.judged if word == "added" else view.base
            lines += wrap_words(f"{word}, only in {only}:", width)
            for nodeid in nodeids:
                first, *rest = wrap_node_id(nodeid, width - 2)
                lines += [f"  {first}", *(f"  {line}" for line in rest)]
    return lines
