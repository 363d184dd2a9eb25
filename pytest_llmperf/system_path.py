"""Conversion of typed text and paths, independent of the encoding that Python started with.

With ``LC_ALL=C`` (and Python's UTF-8 mode off) Python reads file names as ASCII and keeps
other bytes as lone surrogates, which no file, YAML or model library accepts as text.
"""

from __future__ import annotations

import os
from pathlib import Path


def typed_text(text: str) -> str | None:
    """Return an argument or a variable as it was typed; None if it is not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        try:
            return os.fsencode(text).decode("utf-8")
        except UnicodeError:
            return None
    return text


def system_path(text: str) -> Path:
    """Return the path for a text, in a form that this process can open."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        text = os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return Path(text)


def shown_path(path: Path | str) -> str:
    """Return a path as readable text; undecodable bytes are replaced."""
    try:
        return os.fsencode(path).decode("utf-8", "replace")
    except UnicodeEncodeError:
        return str(path)
