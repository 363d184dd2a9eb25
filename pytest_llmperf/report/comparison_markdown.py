"""A comparison as GitHub-flavoured Markdown: a comment that says the verdict first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.compare.result import ComparisonOutcome
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, interval_words, listed
from pytest_llmperf.report.cells import NOTHING, cells_of
from pytest_llmperf.report.comparison import (
    base_files,
    headline,
    interleaved_command,
    recorded_differences,
    remarks,
)
from pytest_llmperf.report.markdown import (
    LONGEST,
    ON_TOP,
    VerdictPage,
    block,
    clipped,
    code,
    escape,
    sentence,
    session_line,
    unmeasured_line,
    unmeasured_row,
    verdict_cell,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.compare.result import ComparisonResult
    from pytest_llmperf.session.result import CheckResult

_HEADER = ("verdict", "test", "metric", "base", "judged", "change", "95% interval")


def render_markdown(result: ComparisonResult, longest: int = LONGEST) -> str:
    """Write a comparison: the verdict, what needs a look, and all else folded away.

    ``longest``: characters; what does not fit is left out, and counted.
    """
    rows = sorted(_rows(result), key=lambda one: one[0])
    lost = result.session.unmeasured
    top = [unmeasured_row(one.nodeid, len(_HEADER)) for one in lost if one.failed]
    top += [row for _, kind, row in rows if kind in ON_TOP]
    command = interleaved_command(result)
    after = []
    if command is not None and top:
        after.append(f"Both sides in one session decide most sharply:\n\n{block(command)}")
    page = VerdictPage(
        title=_title(result),
        about=_about(result),
        header=_HEADER,
        top=top,
        rest=[row for _, kind, row in rows if kind not in ON_TOP],
        after=after,
        lines=[
            *(unmeasured_line(one.nodeid, one.outcome, one.reason) for one in lost),
            *_explanations(result),
            *_facts(result),
        ],
        folded="what was measured" if result.unlike else "everything else",
        whole="`--format json` has all.",
    )
    return page.text(longest)


def refusal_markdown(why: str) -> str:
    """Write that two sides could not be compared, with the error's whole message."""
    lines = [code(line) for line in why.splitlines()]
    return "### llmperf: not compared\n\n" + "  \n".join(lines) + "\n"


def _title(result: ComparisonResult) -> str:
    """Name the outcome, or the worst verdict where nothing failed."""
    kinds = list(result.kinds)
    if result.unlike and not kinds:
        return "llmperf: side by side, not judged"
    worst = result.outcome.value
    if result.outcome is ComparisonOutcome.FINE and kinds:
        worst = kinds[0].value
    title = f"llmperf: {worst} ({escape(headline(result))})"
    return f"{title}; side by side, not judged here" if result.unlike else title


def _about(result: ComparisonResult) -> list[str]:
    session = result.session
    lines = [
        f"{code(clipped(result.candidate))} compared with {code(clipped(result.base))} "
        f"({count(result.base_sessions, 'stored session')}).",
        session_line(session.model, session.machine_key, session.engine),
    ]
    lines += [f"Not judged, since it differs: {escape(clipped(text))}." for text in result.unlike]
    if result.why_not:
        lines.append(f"**Not compared:** {escape(clipped(result.why_not))}.")
    for word, nodeids in (("added", result.added), ("removed", result.removed)):
        if nodeids:
            lines.append(f"{count(len(nodeids), 'test')} {word}.")
    if session.busy:
        lines.append(f"What the machine did: {escape(clipped('; '.join(session.busy), 1000))}.")
    return lines


def _rows(result: ComparisonResult) -> Iterator[tuple[tuple[int, float], VerdictKind | None, str]]:
    """Yield each row with its sort key: the worst verdict, then the largest slowdown."""
    for test in result.session.tests:
        for row in test.rows:
            kind = row.verdict.kind if row.verdict is not None else None
            rank = kind.rank if kind is not None else len(VerdictKind)
            change = row.change if row.change is not None else float("-inf")
            yield (rank, -change), kind, _line(test.nodeid, row, kind)


def _line(nodeid: str, row: CheckResult, kind: VerdictKind | None) -> str:
    cells = cells_of(row)
    proof = row.verdict.proof if row.verdict is not None else None
    interval = NOTHING
    if proof is not None and proof.low is not None and proof.high is not None:
        interval = interval_words(row.check.metric, proof.low, proof.high)
    texts = (cells.metric, cells.baseline, cells.current, cells.change, interval)
    shown = (verdict_cell(kind, NOTHING), code(clipped(nodeid)), *map(escape, texts))
    return f"| {' | '.join(shown)} |"


def _explanations(result: ComparisonResult) -> Iterator[str]:
    """Explain each verdict that is no pass; metrics with the same explanation share a line."""
    for test in result.session.tests:
        labels_by_reason: dict[tuple[str, str], list[str]] = {}
        for row in test.rows:
            if row.verdict is not None and row.verdict.kind is not VerdictKind.PASS:
                why = " ".join((row.verdict.claim or row.verdict.explanation).split())
                labels_by_reason.setdefault((row.verdict.kind.value, why), []).append(row.label)
        texts = [
            *(
                f"{kind}: {listed(labels)}: {why}"
                for (kind, why), labels in labels_by_reason.items()
            ),
            *(f"likely cause: {cause}" for cause in test.causes),
            *test.findings,
        ]
        for text in texts:
            yield f"- {code(clipped(test.nodeid))} {sentence(text)}"


def _facts(result: ComparisonResult) -> Iterator[str]:
    session = result.session
    for text in (*session.notes, *remarks(result)):
        yield f"- {sentence(text)}"
    for text in base_files(result):
        yield f"- base: {code(clipped(text))}"
    for text in recorded_differences(result):
        yield f"- differs from the base: {sentence(text)}"
    for word, nodeids in (("added", result.added), ("removed", result.removed)):
        for nodeid in nodeids:
            yield f"- {word}: {code(clipped(nodeid))}"
