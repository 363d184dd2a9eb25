"""Text for readers: counts with nouns, safe characters, display width, lossless line breaks."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Sequence

#: Unicode categories that move the cursor, hide text or can't be encoded: shown escaped.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

#: Separator of the parts of one line.
DOT = " · "

# A node id breaks after a folder, after "::" or before its parameters first,
# and inside names only if that is not enough.
_STRONG_BREAK = re.compile(r"(?<=/)|(?<=::)|(?=\[)")
_WEAK_BREAK = re.compile(r"(?<=[-_,.: ])")


def json_text(data: object) -> str:
    """Return data as indented JSON, for programs and people."""
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def shown_value(value: object) -> str:
    """Return a setting's value as a user writes it: text bare, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def count(number: int, noun: str) -> str:
    """Return a count with its noun: ``1 process``, ``3 processes``, ``2 groups of pairs``."""
    return f"1 {noun}" if number == 1 else f"{number} {plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun: ``processes``, ``checks``, ``groups of pairs``."""
    first, of, rest = noun.partition(" of ")
    return f"{first}{'es' if first.endswith('s') else 's'}{of}{rest}"


def printable(text: str) -> str:
    """Return ``text`` with control, invisible and unencodable characters as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape", "backslashreplace").decode("ascii")
        if unicodedata.category(c) in _UNSAFE
        else c
        for c in text
    )


def printable_lines(text: str, indent: str = "") -> str:
    """Return text with each of its lines made printable, and all but the first indented."""
    return f"\n{indent}".join(map(printable, text.splitlines()))


def in_short(text: str) -> str:
    """Return a reason in one line: its first line, and the exception if a traceback follows."""
    first, *others = text.splitlines() or [""]
    raised = [line[1:].strip() for line in others if line.startswith("E ")]
    return " ".join([first, *raised[:1]])


def display_width(text: str) -> int:
    """Return the columns that printable ``text`` takes on a terminal (two for wide characters)."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def pad(text: str, width: int) -> str:
    """Pad ``text`` with spaces to ``width`` columns."""
    return text + " " * max(0, width - display_width(text))


def columns(rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """Lay rows of texts out in columns, ``gap`` spaces apart; one line per row."""
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    return [(" " * gap).join(map(pad, row, widths)).rstrip() for row in rows]


def wrap_node_id(nodeid: str, width: int, indent: str = "    ") -> list[str]:
    """Break a node id at its separators into lines of at most ``width`` columns.

    Nothing is dropped: the lines, without the indent of the later ones, join to
    the id (made printable). A piece without separators is broken anywhere.
    """
    room = max(1, width - len(indent))
    pieces: list[str] = []
    for strong in _split(_STRONG_BREAK, printable(nodeid)):
        weaker = [strong] if display_width(strong) <= room else _split(_WEAK_BREAK, strong)
        for weak in weaker:
            pieces.extend([weak] if display_width(weak) <= room else _chop(weak, room))
    lines = _fill(pieces, width, len(indent), joint="")
    return [line if number == 0 else indent + line for number, line in enumerate(lines)]


def wrap_words(text: str, width: int, indent: str = "  ", first: str = "") -> list[str]:
    """Break a sentence at its spaces into lines of at most ``width`` columns.

    ``first`` starts the first line, ``indent`` the others. Words longer than a
    line stay whole: a command or a path cut in two can't be copied.
    """
    lead = len(indent)
    words = printable(" ".join(text.split())).split(" ")
    if first.strip() and display_width(first + words[0]) > width >= lead + display_width(words[0]):
        lines = _fill(words, width, lead, joint=" ", used=lead)
        return [first.rstrip(), *(indent + line for line in lines)]
    lines = _fill(words, width, lead, joint=" ", used=display_width(first))
    return [(first if number == 0 else indent) + line for number, line in enumerate(lines)]


def pack(items: list[str], width: int, indent: str, joint: str = "  ") -> list[str]:
    """Pack items on as few lines as possible, without breaking any."""
    lines = _fill(items, width, len(indent), joint=joint)
    return [line if number == 0 else indent + line for number, line in enumerate(lines)]


def shell_word(text: str) -> str:
    """Quote ``text`` for a POSIX shell; control characters in bash's ``$'...'`` form."""
    safe = printable(text)
    if safe == text:
        return shlex.quote(text)
    escaped = printable(text.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    return [piece for piece in pattern.split(text) if piece]


def _chop(text: str, room: int) -> list[str]:
    """Break text with no separators into pieces of at most ``room`` columns."""
    pieces, piece = [], ""
    for character in text:
        if piece and display_width(piece + character) > room:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece]


def _fill(pieces: list[str], width: int, lead: int, joint: str, used: int = 0) -> list[str]:
    """Join pieces into lines; the first line has ``used`` columns taken, the others ``lead``."""
    lines: list[str] = []
    line, taken = "", used
    for piece in pieces:
        if not line:
            line = piece
        elif taken + display_width(line + joint + piece) <= width:
            line += joint + piece
        else:
            lines.append(line.rstrip() if joint else line)
            line, taken = piece, lead
    lines.append(line.rstrip() if joint else line)
    return lines
