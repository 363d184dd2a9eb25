"""Recognizes headers and arguments that hold a key, which no file or message may contain."""

from __future__ import annotations

import re

_SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


def holds_a_key(name: str) -> bool:
    """Whether what has this name usually holds a key: ``Authorization``, ``api-key``."""
    return _SECRET.search(name) is not None
