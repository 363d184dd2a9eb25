"""A comparison as GitHub-flavoured Markdown: a comment that says the verdict first."""

from __future__ import annotations

import re
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
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmperf.compare.result import ComparisonResult
    from pytest_llmperf.session.result import CheckResult

#: A comment longer than 65,536 characters is refused as a whole.
LONGEST = 64_000
#: What a reader has to see without opening anything.
_ON_TOP = frozenset(
    {
        VerdictKind.ERROR,
        VerdictKind.INVALID,
        VerdictKind.REGRESSED,
        VerdictKind.MISSED,
        VerdictKind.INCONCLUSIVE,
    }
)
_HEADER = ("verdict", "test", "metric", "base", "judged", "change", "95% interval")
#: What may mean something in Markdown, HTML or a table, where it may.
_SPECIAL = re.compile(
    r"[^\w\s./,=+()%;:→\[\]-]"  # any other sign
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis
    r"|\[(?![-+\d])|\](?=[(\[:])"  # a link
    r"|:(?=/)|(?<!:):(?=[a-zA-Z+-])"  # an address, an emoji's name
    r"|(?<=www)\.",
    re.IGNORECASE,
)
#: Somebody's name or an issue's number would be made a link, and somebody be called.
_CALLING = re.compile(r"(?<=[@#])(?=\w)")
_NO_SPACE = "\u200b"


def render_markdown(result: ComparisonResult, longest: int = LONGEST) -> str:
    """Write a comparison: the verdict, what needs a look, and all else folded away.

    ``longest``: characters; rows of the folded part are left out where it would be longer,
    and counted. Names are escaped: none can end a cell, make a link, or call somebody.
    """
    rows = sorted(_rows(result), key=lambda one: one[0])
    top = [row for _, kind, row in rows if kind in _ON_TOP]
    rest = [row for _, kind, row in rows if kind not in _ON_TOP]
    parts = [f"### {_title(result)}", _about(result)]
    if top:
        parts.append(_table(top[: _fitting(top, longest // 2)]))
    if (left := len(top) - _fitting(top, longest // 2)) > 0:
        parts.append(f"and {count(left, 'more row')} like these.")
    command = interleaved_command(result)
    if command is not None and top:
        parts.append(f"Both sides in one session decide most sharply:\n\n{_block(command)}")
    room = longest - len("\n\n".join(parts))
    return "\n\n".join([*parts, *_folded(result, rest, room)]) + "\n"


def refusal_markdown(why: str) -> str:
    """Write that two sides could not be compared, with the error's whole message."""
    lines = [code(line) for line in why.splitlines()]
    return "### llmperf: not compared\n\n" + "  \n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return any text as Markdown that shows just that text, in a table's cell too."""
    return _escaped(_CALLING.sub(_NO_SPACE, printable(text)))


def code(text: str) -> str:
    """Return any text as code, in which an at sign notifies nobody."""
    # Nothing invisible goes into what may be copied, but an address is still none.
    parts = map(_escaped, printable(text).split("@"))
    return f"<code>{'&#64;<!-- -->'.join(parts)}</code>"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text)


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


def _about(result: ComparisonResult) -> str:
    session = result.session
    lines = [
        f"{code(result.candidate)} compared with {code(result.base)} "
        f"({count(result.base_sessions, 'stored session')}).",
        f"{escape(session.model)} on {code(session.machine_key)}, {escape(session.engine)}.",
    ]
    lines += [f"Not judged, since it differs: {escape(text)}." for text in result.unlike]
    if result.why_not:
        lines.append(f"**Not compared:** {escape(result.why_not)}.")
    for word, nodeids in (("added", result.added), ("removed", result.removed)):
        if nodeids:
            lines.append(f"{count(len(nodeids), 'test')} {word}.")
    if session.busy:
        lines.append(f"What the machine did: {escape('; '.join(session.busy))}.")
    return "  \n".join(lines)


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
    verdict = f"**{kind.value}**" if kind in _ON_TOP and kind else escape(cells.verdict)
    texts = (cells.metric, cells.baseline, cells.current, cells.change, interval)
    return f"| {verdict} | {code(nodeid)} | {' | '.join(map(escape, texts))} |"


def _table(lines: Sequence[str]) -> str:
    head = f"| {' | '.join(_HEADER)} |"
    return "\n".join([head, "|" + " --- |" * len(_HEADER), *lines])


def _fitting(lines: Sequence[str], room: int) -> int:
    """How many lines fit into so many characters."""
    used = 0
    for number, line in enumerate(lines):
        used += len(line) + 1
        if used > room:
            return number
    return len(lines)


def _folded(result: ComparisonResult, lines: Sequence[str], room: int) -> list[str]:
    """Write the folded part: the other rows, explanations, and what was compared."""
    written = [*_explanations(result), *_facts(result)]
    kept = written[: _fitting(written, room // 2)]
    room -= sum(len(line) + 1 for line in kept) + 500
    shown = lines[: _fitting(lines, max(room, 0))]
    cut = [
        f"{count(left, noun)} left out here: `--format json` has all."
        for left, noun in ((len(lines) - len(shown), "row"), (len(written) - len(kept), "line"))
        if left
    ]
    what = "what was measured" if result.unlike else "everything else"
    parts = [f"<details><summary>{what}: {count(len(lines), 'row')}</summary>"]
    parts += [_table(shown)] if shown else []
    parts += ["\n".join(kept)] if kept else []
    return [*parts, *cut, "</details>"]


def _explanations(result: ComparisonResult) -> Iterator[str]:
    """Explain each verdict that is no pass; metrics with the same explanation share a line."""
    for test in result.session.tests:
        labels_by_reason: dict[tuple[str, str], list[str]] = {}
        for row in test.rows:
            if row.verdict is not None and row.verdict.kind is not VerdictKind.PASS:
                why = " ".join((row.verdict.claim or row.verdict.explanation).split())
                labels_by_reason.setdefault((row.verdict.kind.value, why), []).append(row.label)
        for (kind, why), labels in labels_by_reason.items():
            yield f"- {code(test.nodeid)} {escape(f'{kind}: {listed(labels)}: {why}')}"
        for cause in test.causes:
            yield f"- {code(test.nodeid)} {escape(f'likely cause: {cause}')}"
        for finding in test.findings:
            yield f"- {code(test.nodeid)} {escape(finding)}"


def _facts(result: ComparisonResult) -> Iterator[str]:
    session = result.session
    for text in (*session.notes, *remarks(result)):
        yield f"- {escape(text)}"
    for text in base_files(result):
        yield f"- base: {code(text)}"
    for text in recorded_differences(result):
        yield f"- differs from the base: {escape(text)}"
    for word, nodeids in (("added", result.added), ("removed", result.removed)):
        for nodeid in nodeids:
            yield f"- {word}: {code(nodeid)}"


def _block(command: str) -> str:
    """Fence a command; one with backticks by more of them."""
    longest = max((len(run) for run in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{printable(command)}\n{fence}"
