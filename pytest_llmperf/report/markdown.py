"""GitHub-flavoured Markdown: escaped text, and a page that begins with its verdict."""

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

#: Longest page, in characters. GitHub refuses comments of more than 65,536 characters.
LONGEST = 60_000
#: Kinds of verdict that a reader has to see without unfolding anything.
ON_TOP = frozenset(
    {
        VerdictKind.ERROR,
        VerdictKind.INVALID,
        VerdictKind.REGRESSED,
        VerdictKind.MISSED,
        VerdictKind.INCONCLUSIVE,
    }
)
#: Characters with a meaning in Markdown, HTML or a table, in the places where they have it.
_SPECIAL = re.compile(
    r"[^\w\s./,=+()%;:→\[\]-]"  # any other sign
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis
    r"|\[(?![-+\d])|\](?=[(\[:])"  # a link
    r"|:(?=/)|(?<!:):(?=[a-zA-Z+-])"  # an address, an emoji's name
    r"|(?<=www)\.",
    re.IGNORECASE,
)
#: User names and issue numbers would become links and notify people; a name between colons
#: would become an emoji. GitHub and GitLab look for them in the rendered page.
_CALLING = re.compile(r"(?<=[@#!~$&])(?=\w)|(?<=:)(?=[\w+-]+:)")
_NO_SPACE = "\u200b"
#: Longest name, in characters; longer ones are clipped in the middle.
_LONGEST_NAME = 240
#: Longest explanation, in characters.
_LONGEST_LINE = 1000
#: Characters for headings, the sentence about omissions, and the end of the folded part.
_RESERVED = 700


def escape(text: str) -> str:
    """Escape text for Markdown, including table cells; nobody is notified."""
    return _escaped(_CALLING.sub(_NO_SPACE, printable(text)))


def code(text: str) -> str:
    """Return text as code, in which an at sign notifies nobody."""
    # No invisible characters, as code may be copied; an address still does not become a link.
    parts = map(_escaped, printable(text).split("@"))
    return f"<code>{'&#64;<!-- -->'.join(parts)}</code>"


def clipped(text: str, longest: int = _LONGEST_NAME) -> str:
    """Return a text; if it is too long, its two ends."""
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def session_line(model: str, machine: str, engine: str) -> str:
    """Describe what was measured, in one line.

    It does not start with a name, as GitLab runs a line that starts with a slash as a command.
    """
    return f"Model {escape(clipped(model))} on {code(clipped(machine))}, {escape(clipped(engine))}."


def sentence(text: str) -> str:
    """Return an explanation as one line of Markdown; if it is too long, its two ends."""
    return escape(clipped(" ".join(text.split()), _LONGEST_LINE))


def unmeasured_row(nodeid: str, columns: int) -> str:
    """Return the table row for a test that failed before it was measured."""
    cells = (f"**{NOT_MEASURED}**", code(clipped(nodeid)), *([NOTHING] * (columns - 2)))
    return f"| {' | '.join(cells)} |"


def unmeasured_line(nodeid: str, outcome: str, reason: str) -> str:
    """Return a list item that says why a test was not measured."""
    return f"- {code(clipped(nodeid))} {sentence(f'{outcome}, {NOT_MEASURED}: {reason}')}"


def verdict_cell(kind: VerdictKind | None, nothing: str) -> str:
    """Return a verdict, in bold if a reader has to see it."""
    if kind is None:
        return nothing
    return f"**{kind.value}**" if kind in ON_TOP else escape(kind.value)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text)


@dataclass(frozen=True)
class VerdictPage:
    """A page with the verdict first, then the rows that need attention, and the rest folded away.

    All texts are already Markdown.

    Attributes:
        title: the heading.
        about: lines below the heading.
        header: header cells of the table.
        top: rows that need attention, the worst first.
        top_lines: explanations of these rows, one item per line.
        rest: the other rows.
        lines: explanations of the other rows, and further facts, one item per line.
        whole: where to find everything, if the page leaves something out.
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
        """Write the page in at most ``longest`` characters; rows on top take precedence."""
        # Escaping makes a name of special characters several times as long.
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
    """Return the first lines, as many as fit into ``room`` characters."""
    used = 0
    for number, line in enumerate(lines):
        used += len(line) + 1
        if used > room:
            return lines[:number]
    return lines
