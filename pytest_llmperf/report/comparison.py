"""A comparison of stored sessions as text and JSON; a refused one as Markdown and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmperf.compare.result import ComparisonOutcome
from pytest_llmperf.gate.combine import verdict_per_quantity
from pytest_llmperf.gate.verdict import UNCOMPARED, VerdictKind
from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.report.cells import paint, verdict_style
from pytest_llmperf.report.footer import MAX_FILES, MORE_WOULD_NOT_DECIDE, sessions_needed
from pytest_llmperf.report.forms.headline import NOT_MEASURED, REMOVED, counted, unmeasured_words
from pytest_llmperf.report.json_report import SCHEMA_VERSION, session_json
from pytest_llmperf.report.markdown import code
from pytest_llmperf.report.table import table_lines
from pytest_llmperf.text import pack, printable, shell_word, wrap_node_id, wrap_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.compare.result import ComparisonResult
    from pytest_llmperf.gate.verdict import Verdict

_INDENT = "    "


def render_comparison(result: ComparisonResult, width: int = 80, color: bool = False) -> list[str]:
    """Draw a comparison for a terminal ``width`` columns wide; one string per line.

    Down to the legend it is a session's table. The usual footer is about a session
    that was just measured, so a comparison has its own.
    """
    lines = table_lines(result.session, width, color)
    return [*lines, "", *_closing(result, max(20, width), color)]


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
        sharper = (
            "for the sharpest answer, measure both sides in one session; "
            "in the candidate's checkout, run:"
        )
        lines += [*wrap_words(sharper, width), _INDENT + printable(command)]
    for text in base_files(result):
        lines += wrap_words(text, width, first="base: ", indent=_INDENT)
    for text in recorded_differences(result):
        lines += wrap_words(text, width, first="differs from the base: ")
    for test in result.session.unmeasured:
        text = f"{test.outcome}, {NOT_MEASURED}: {test.nodeid}: {test.reason}"
        lines += wrap_words(text, width, indent=_INDENT)
    for word, nodeids in (("added", result.added), ("removed", result.removed)):
        if nodeids:
            only = result.candidate if word == "added" else result.base
            lines += wrap_words(f"{word}, only in {only}:", width)
            for nodeid in nodeids:
                first, *rest = wrap_node_id(nodeid, width - 2)
                lines += [f"  {first}", *(f"  {line}" for line in rest)]
    return lines


def headline(result: ComparisonResult) -> str:
    """Count the verdicts in one line: ``3 tests, 9 checks: 1 regressed, 8 pass``.

    Tests that were not measured, and tests that only the base has, are counted as well.
    """
    others = [] if result.kinds else ["nothing was judged"]
    others += unmeasured_words(test.outcome for test in result.session.unmeasured)
    if result.removed:
        others.append(f"{count(len(result.removed), 'test')} {REMOVED}")
    return counted(len(result.session.tests), result.kinds, others)


def remarks(result: ComparisonResult) -> Iterator[str]:
    """Yield remarks that a reader needs besides the verdicts, one sentence each."""
    verdicts = [
        verdict for test in result.session.tests for verdict in verdict_per_quantity(test.verdicts)
    ]
    if any(verdict.change is not None for verdict in verdicts):
        yield (
            "chance of a false regressed verdict: at most "
            f"{percent(result.session.false_alarms)} per comparison"
        )
    undecided = [verdict for verdict in verdicts if verdict.kind is VerdictKind.INCONCLUSIVE]
    if undecided:
        fails = "fails, as --strict asks" if result.strict else "passes; with --strict it fails"
        yield (
            f"{count(len(undecided), 'check')} inconclusive: neither a slowdown nor its absence is "
            f"proven ({fails})"
        )
        # Checks left undecided by the report's own session do not rest on stored sessions.
        if compared := [verdict for verdict in undecided if verdict.proof is not None]:
            yield from _what_would_decide(compared)
    if any(verdict.kind in UNCOMPARED for verdict in verdicts):
        yield "metrics with a changed workload or no baseline are shown but not judged"


def _what_would_decide(undecided: list[Verdict]) -> Iterator[str]:
    more = sessions_needed(undecided)
    if more is None:
        yield MORE_WOULD_NOT_DECIDE
    else:
        sessions = count(more, "more recorded session")
        yield f"about {sessions} of the base would decide, if similar to the stored ones"


def interleaved_command(result: ComparisonResult) -> str | None:
    """Return the command to run in the candidate's tree to measure both sides, or None."""
    undecided = {VerdictKind.INCONCLUSIVE, VerdictKind.REGRESSED} & set(result.kinds)
    if result.against is None or not undecided:
        return None
    return f"pytest -m perf --llmperf-against {shell_word(result.against)}"


def base_files(result: ComparisonResult) -> Iterator[str]:
    """Yield the files of the base; of many, only the first and the last."""
    sources = [source for source in result.session.baseline_sources if source != result.base]
    if len(sources) <= MAX_FILES:
        yield from sources
    else:
        first, last = sources[0], sources[-1]
        yield f"{count(len(sources), 'session')}, {first} to {last}"


def recorded_differences(result: ComparisonResult) -> list[str]:
    """Return the recorded differences other than speed, each once for all tests."""
    return list(dict.fromkeys(d for test in result.session.tests for d in test.differences))


def comparison_json(result: ComparisonResult) -> dict[str, Any]:
    """Return the comparison as plain JSON: a session's report with one more key.

    Besides the keys of ``--llmperf-json`` it has::

        compare     base, judged (names), base_sessions, unlike [text], added [node id],
                    removed [node id], outcome ("fine", "inconclusive", "not compared",
                    "missed" or "regressed"), why_not (text or null), strict, remarks
                    [text] (besides the verdicts), command (that measures both sides in one
                    session, if that may decide more; else null)

    The report's own verdict on a metric is among its ``reasons``, with the strategy "report";
    it is also the final verdict if judging again gave a milder one.
    """
    return {
        **session_json(result.session),
        "compare": {
            "base": result.base,
            "judged": result.candidate,
            "base_sessions": result.base_sessions,
            "unlike": list(result.unlike),
            "added": list(result.added),
            "removed": list(result.removed),
            "outcome": result.outcome.value,
            "why_not": result.why_not_compared or None,
            "strict": result.strict,
            "remarks": list(remarks(result)),
            "command": interleaved_command(result),
        },
    }


def refusal_markdown(why: str) -> str:
    """Return the Markdown for two arguments that could not be compared at all."""
    lines = [code(line) for line in why.splitlines()]
    return "### llmperf: not compared\n\n" + "  \n".join(lines) + "\n"


def refusal_json(base: str, candidate: str, why: str) -> dict[str, Any]:
    """Return the JSON for two arguments that could not be compared at all."""
    return {
        "schema": SCHEMA_VERSION,
        "session": None,
        "counts": {},
        "tests": [],
        "compare": {
            "base": base,
            "judged": candidate,
            "outcome": ComparisonOutcome.NOT_COMPARED.value,
            "why_not": why,
        },
    }
