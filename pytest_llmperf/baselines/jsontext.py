"""Readable JSON text with small diffs: stable, indented, rounded, lists of scalars on one line."""

from __future__ import annotations

import json
import math
from typing import Any

_INDENT = "  "
SIGNIFICANT_DIGITS = 9


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
