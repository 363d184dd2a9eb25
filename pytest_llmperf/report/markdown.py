"""GitHub-flavoured Markdown: text that means nothing but itself, and a page led by its verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, listed
from pytest_llmperf.report.cells import NOTHING
from pytest_llmperf.report.forms.headline import NOT_MEASURED
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Characters of a page. GitHub refuses a comment of more than 65,536 as a whole.
LONGEST = 60_000
#: What a reader has to see without opening anything.
ON_TOP = frozenset(
    {
        VerdictKind.ERROR,
        VerdictKind.INVALID,
        VerdictKind.REGRESSED,
        VerdictKind.MISSED,
        VerdictKind.INCONCLUSIVE,
    }
)
#: What may mean something in Markdown, HTML or a table, where it may.
_SPECIAL = re.compile(
    r"[^\w\s./,=+()%;:→\[\]-]"  # any other sign
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis
    r"|\[(?![-+\d])|\](?=[(\[:])"  # a link
    r"|:(?=/)|(?<!:):(?=[a-zA-Z+-])"  # an address, an emoji's name
    r"|(?<=www)\.",
    re.IGNORECASE,
)
#: Somebody's name or an issue's number would be made a link, and somebody be called; a name
#: between colons would be made a picture. GitHub and GitLab look for them in the finished page.
_CALLING = re.compile(r"(?<=[@#!~$&])(?=\w)|(?<=:)(?=[\w+-]+:)")
_NO_SPACE = "\u200b"
#: Characters of a name that are shown; of a longer one its beginning and its end.
_LONGEST_NAME = 240
#: Characters of one explanation.
_LONGEST_LINE = 1000
#: Room for headings, the sentence about what was left out, and the end of the folded part.
_RESERVED = 700


def escape(text: str) -> str:
    """Return any text as Markdown that shows just that text, in a table's cell too."""
    return _escaped(_CALLING.sub(_NO_SPACE, printable(text)))


def code(text: str) -> str:
    """Return any text as code, in which an at sign notifies nobody."""
    # Nothing invisible goes into what may be copied, but an address is still none.
    parts = map(_escaped, printable(text).split("@"))
    return f"<code>{'&#64;<!-- -->'.join(parts)}</code>"


def clipped(text: str, longest: int = _LONGEST_NAME) -> str:
    """Return a text, or the two ends of one that is too long for a page."""
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def session_line(model: str, machine: str, engine: str) -> str:
    """Return what was measured, in one line.

    It does not start with a name: GitLab obeys a line that starts with a slash.
    """
    return f"Model {escape(clipped(model))} on {code(clipped(machine))}, {escape(clipped(engine))}."


def sentence(text: str) -> str:
    """Return an explanation as Markdown in one line, of a long one the two ends."""
    return escape(clipped(" ".join(text.split()), _LONGEST_LINE))


def unmeasured_row(nodeid: str, columns: int) -> str:
    """Return the row of a table for a test that failed before it was measured."""
    cells = (f"**{NOT_MEASURED}**", code(clipped(nodeid)), *([NOTHING] * (columns - 2)))
    return f"| {' | '.join(cells)} |"


def unmeasured_line(nodeid: str, outcome: str, reason: str) -> str:
    """Return an item of a list: why a test was not measured."""
    return f"- {code(clipped(nodeid))} {sentence(f'{outcome}, {NOT_MEASURED}: {reason}')}"


def verdict_cell(kind: VerdictKind | None, nothing: str) -> str:
    """Return a verdict, in bold where a reader has to see it."""
    if kind is None:
        return nothing
    return f"**{kind.value}**" if kind in ON_TOP else escape(kind.value)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text)


@dataclass(frozen=True)
class VerdictPage:
    """A page with the verdict first, then the rows that need a look, then all else folded away.

    All texts are Markdown already.

    Attributes:
        title: the heading.
        about: lines below it.
        header: of the table.
        top: rows that need a look, the worst first.
        top_lines: what explains them, one item a line.
        rest: the other rows.
        lines: what explains them, and other facts, one item a line.
        whole: where everything is, for a page that leaves something out.
    """

    title: str
    about: Sequence[str]
    header: Sequence[str]
    top: Sequence[str]
    rest: Sequence[str]
    whole: str
    top_lines: Sequence[str] = ()
    lines: Sequence[str] = ()

    def text(self, longest: int = LONGEST) -> str:
        """Write the page with at most so many characters, the rows on top before all others."""
        # A name of signs is several times as long once they are escaped.
        about = _fitting(self.about, longest // 3)
        parts = [f"### {self.title}", "  \n".join(about)]
        room = longest - len("\n\n".join(parts)) - len(self.whole) - _RESERVED
        top = _fitting(self.top, room * 3 // 4)
        room -= _length(top)
        top_lines = _fitting(self.top_lines, room // 2)
        room -= _length(top_lines)
        lines = _fitting(self.lines, room // 2)
        room -= _length(lines)
        rest = _fitting(self.rest, room)
        left = [
            count(number, noun)
            for number, noun in (
                (len(self.about) - len(about), "line about the session"),
                (len(self.top) - len(top), "failing or open row"),
                (len(self.rest) - len(rest), "other row"),
                (
                    len(self.top_lines) + len(self.lines) - len(top_lines) - len(lines),
                    "explanation",
                ),
            )
            if number
        ]
        parts += [self._table(top)] if top else []
        parts += ["\n".join(top_lines)] if top_lines else []
        if left:
            parts.append(f"Left out here, to keep this short: {listed(left)}. {self.whole}")
        if self.rest or self.lines:
            parts += self._folded(rest, lines)
        return "\n\n".join(parts) + "\n"

    def _folded(self, rest: Sequence[str], lines: Sequence[str]) -> list[str]:
        parts = [f"<details><summary>everything else: {count(len(self.rest), 'row')}</summary>"]
        parts += [self._table(rest)] if rest else []
        parts += ["\n".join(lines)] if lines else []
        return [*parts, "</details>"]

    def _table(self, rows: Sequence[str]) -> str:
        head = f"| {' | '.join(self.header)} |"
        return "\n".join([head, "|" + " --- |" * len(self.header), *rows])


def _length(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _fitting(lines: Sequence[str], room: int) -> Sequence[str]:
    """Return the lines that fit into so many characters."""
    used = 0
    for number, line in enumerate(lines):
        used += len(line) + 1
        if used > room:
            return lines[:number]
    return lines
