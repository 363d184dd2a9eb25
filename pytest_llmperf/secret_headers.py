"""Recognizes HTTP headers that hold a key, which no file, record or message may contain."""

from __future__ import annotations

import re

_SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


def holds_a_key(name: str) -> bool:
    """Whether a header of this name usually holds a key: ``Authorization``, ``api-key``."""
    return _SECRET.search(name) is not None
