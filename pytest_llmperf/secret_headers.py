"""Recognizes headers and arguments with secret values, which no file or message may contain."""

from __future__ import annotations

import re

_SECRET = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a header or argument of this name usually holds a key, such as ``api-key``."""
    return _SECRET.search(name) is not None
