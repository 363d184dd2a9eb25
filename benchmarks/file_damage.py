"""Damage a stored JSON file, one value at a time, and check what a command says about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

Path = tuple[str | int, ...]

_MARK = "@damage@"
#: Replacements of a value: a name, and the JSON text.
VALUES = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "below zero": "-1",
    "a half": "0.5",
    "tiny": "1e-320",
    "large": "1e308",
    "400 digits": "1" + "0" * 399,
    "5000 digits": "1" + "0" * 4999,
    "overflowing": "1e999",
    "not a number": "NaN",
    "no text": '""',
    "text": '"x"',
    "control text": '"\\u001b[2J\\u202e\\ud800"',
    "a list": "[]",
    "a nested list": "[[null]]",
    "an object": "{}",
}
REMOVED = "removed"


class Damage(NamedTuple):
    """One damaged copy of a file.

    Attributes:
        path: where the value stood.
        value: what it became: a key of ``VALUES``, or ``REMOVED``.
        text: the whole file.
    """

    path: Path
    value: str
    text: str

    @property
    def place(self) -> str:
        """The path as text for people."""
        return "".join(f"[{key!r}]" for key in self.path)


def places(data: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value, containers included, except the whole."""
    items = enumerate(data) if isinstance(data, list) else ()
    for key, value in data.items() if isinstance(data, dict) else items:
        yield (*path, key)
        yield from places(value, (*path, key))


def damaged(text: str) -> Iterator[Damage]:
    """Yield a damaged copy of a file for every place in it and every replacement of its value."""
    for path in list(places(json.loads(text))):
        for value in (*VALUES, REMOVED):
            yield Damage(path, value, damage(text, [path], value))


def damage(text: str, paths: Sequence[Path], value: str) -> str:
    """Return a file's text with the values at some places replaced."""
    data = json.loads(text)
    # Deeper and later ones first, so that no place is gone before its turn.
    for path in sorted(paths, key=lambda keys: (len(keys), str(keys)), reverse=True):
        *way, last = path
        inside = data
        for key in way:
            inside = inside[key]
        if value == REMOVED:
            del inside[last]
        else:
            inside[last] = _MARK
    indent = 1 if "\n" in text.strip() else None
    return json.dumps(data, indent=indent).replace(f'"{_MARK}"', VALUES.get(value, ""))


#: A remedy begins with one of these words.
_FIX = re.compile(
    r"\b(restore|remove|delete|move|rename|record again|decide again|name |upgrade|compare with "
    r"a commit|make |bring |write it again|calibrate again|measure)"
)
_BAD = re.compile(r"Traceback|INTERNALERROR|\bnan\b|[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def names_file(errors: str, name: str) -> bool:
    """Whether a complaint names a file."""
    return bool(_causes(errors, name))


def _causes(errors: str, name: str) -> list[str]:
    return re.findall(rf"{re.escape(name)}(?::\d+)?: *(?=\S)(.*)", errors)


def find_fault(output: str, errors: str, name: str, *, refused: bool) -> str:
    """Return what is wrong with a command's output about a damaged file; empty if nothing is.

    Args:
        output: all of its output.
        errors: the part that goes to the standard error.
        name: of the file.
        refused: it did not use the file, so it has to name it once, with a cause and a remedy.
    """
    if bad := _BAD.search(output):
        line = output[output.rfind("\n", 0, bad.start()) + 1 :].partition("\n")[0]
        return f"it printed {bad.group()!r}: {line[:120]!r}"
    if not refused:
        return ""
    causes = _causes(errors, name)
    if len(causes) != 1:
        return f"it named the file in {len(causes)} complaints: {errors[:400]!r}"
    rest = errors[errors.index(causes[0]) :]
    return "" if _FIX.search(rest) else f"it says no remedy: {rest[:200]!r}"
