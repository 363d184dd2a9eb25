"""A minimal terminal emulator: the lines that a terminal shows after some output."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|(.)", re.DOTALL)


def screen(written: str, width: int = 80) -> list[str]:
    """Return the lines that a terminal of unlimited height shows.

    Supports carriage return, line feed, cursor up, erase in line and colours, and nothing else.
    """
    rows: list[list[str]] = [[]]
    row = column = 0
    for number, letter, text in _TOKEN.findall(written):
        if letter == "A":
            row = max(0, row - int(number or 1))
        elif letter == "K":
            rows[row] = [] if number == "2" else rows[row][:column]
        elif letter == "m":
            continue
        elif text == "\r":
            column = 0
        elif text == "\n":
            # The terminal's driver adds a carriage return.
            row, column = row + 1, 0
        elif text and text.isprintable():
            if column == width:
                row, column = row + 1, 0
            rows += [[] for _ in range(row + 1 - len(rows))]
            line = rows[row]
            line += " " * (column + 1 - len(line))
            line[column] = text
            column += 1
        else:
            raise ValueError(f"unexpected on a terminal: {number!r} {letter!r} {text!r}")
        rows += [[] for _ in range(row + 1 - len(rows))]
    return ["".join(line).rstrip() for line in rows]
