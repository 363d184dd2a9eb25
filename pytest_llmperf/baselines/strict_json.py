"""Strict JSON for stored files: no duplicate keys, only finite numbers."""

from __future__ import annotations

import json
import math
from typing import Any

#: Digits of the longest whole number: no count, size or seed is longer, and a float holds it.
_MAX_DIGITS = 20


class StrictError(ValueError):
    """JSON that stored files may not contain; ``str()`` says why.

    Args:
        why: reason for a reader.
        token: the offending text of the file; empty if there is no single one.
    """

    def __init__(self, why: str, token: str = "") -> None:
        super().__init__(why)
        self.token = token


def parse(text: str | bytes) -> Any:
    """Parse the text of a stored file.

    Raises:
        json.JSONDecodeError: it is not JSON.
        UnicodeDecodeError: it is not UTF-8.
        StrictError: stored files may not contain it.
    """
    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_not_huge,
        )
    except RecursionError:
        raise StrictError("nested too deeply") from None


def why_not(error: ValueError) -> str:
    """Explain briefly why ``parse`` refused a text, with the line if it is known."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.lower()} (line {error.lineno})"
    return str(error)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise StrictError(f"the key {twice!r} appears twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise StrictError(f"{name} is not a number that can be compared", name)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise StrictError(f"{text[:20]} is too large a number", text)
    return number


def _not_huge(text: str) -> int:
    digits = len(text.removeprefix("-"))
    if digits > _MAX_DIGITS:
        raise StrictError(f"a whole number of {digits} digits is too large", text)
    return int(text)
