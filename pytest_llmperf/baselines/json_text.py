"""The JSON text of stored files: written readably, with small diffs; read strictly.

Text is indented and rounded, with lists of scalars on one line. No duplicate keys, and only
finite numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

_INDENT = "  "
SIGNIFICANT_DIGITS = 9
#: Most digits of a whole number: no count, size or seed is longer, and a float holds it.
_MAX_DIGITS = 20
#: Most characters of a key that a message quotes.
_LONGEST_KEY = 60


def dumps(value: Any) -> str:
    """Write a value as JSON text, with a final newline; keys keep their order.

    Parsing it and dumping the result gives the same text again.

    Raises:
        ValueError: a value is not finite or not plain JSON; the message says which.
    """
    return _render(value, "", "") + "\n"


def _render(value: Any, indent: str, path: str) -> str:
    deeper = indent + _INDENT
    if isinstance(value, dict):
        if not value:
            return "{}"
        lines = (
            f"{deeper}{_string(str(key))}: {_render(item, deeper, f'{path}.{key}')}"
            for key, item in value.items()
        )
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)):
        if not any(isinstance(item, (dict, list, tuple)) for item in value):
            return "[" + ", ".join(_scalar(item, path) for item in value) + "]"
        lines = (
            f"{deeper}{_render(item, deeper, f'{path}[{index}]')}"
            for index, item in enumerate(value)
        )
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path.lstrip('.')}: {value} cannot be stored")
        return repr(float(f"{value:.{SIGNIFICANT_DIGITS}g}"))
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, str):
        return _string(value)
    raise ValueError(f"{path.lstrip('.')}: a {type(value).__name__} cannot be stored")


def _string(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: a file name that is not UTF-8
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)


class StrictError(ValueError):
    """JSON that stored files may not contain; ``str()`` says why.

    Args:
        why: the reason, for the user.
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


def explain_error(error: ValueError) -> str:
    """Explain briefly why ``parse`` refused a text, with the line if it is known."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg.lower()} (line {error.lineno})"
    return str(error)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise StrictError(f"the key {repeated_key(pairs)} appears twice in one object")
    return result


def repeated_key(pairs: Sequence[tuple[str, Any]]) -> str:
    """Return the first key that an object repeats, quoted, and cut if it is long."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return repr(key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}...")
        seen.add(key)
    raise ValueError("no key is repeated")


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
