"""JSON as stored files hold it: no key twice, and every number one that can be compared."""

from __future__ import annotations

import json
import math
from typing import Any

#: A whole number of more digits is no count, size or seed, and may be beyond what a float holds.
_MAX_DIGITS = 20


class StrictError(ValueError):
    """JSON that no stored file holds; ``str()`` says why.

    Args:
        why: for a reader.
        token: the text that is to blame, as the file has it; empty if that is no single one.
    """

    def __init__(self, why: str, token: str = "") -> None:
        super().__init__(why)
        self.token = token


def parse(text: str | bytes) -> Any:
    """Return what a file's text holds.

    Raises:
        json.JSONDecodeError: it is not JSON.
        UnicodeDecodeError: it is not UTF-8.
        StrictError: it is JSON that no stored file holds.
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
    """Say in a few words why ``parse`` refused a text, with the line where it knows it."""
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
