"""Hashes of ``llm.extra`` for records: its keys and a hash of each value, never the values.

An engine's argument may be a secret or a private path, and records are committed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Replaces ``extra`` in stored settings: key -> hash of its value.
EXTRA_HASHES = "extra_sha256"
#: Precision of hashed numbers, as in records.
_SIGNIFICANT_DIGITS = 9
_HEX_DIGITS = 12


def without_extra_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return engine settings with each value of ``extra`` replaced by its hash.

    Settings already in that form, or without ``extra``, are returned unchanged.
    """
    stored = dict(config)
    extra = stored.pop("extra", None)
    if extra is None:
        return stored
    hashes = {str(key): value_hash(value) for key, value in extra.items()}
    return {**stored, EXTRA_HASHES: {**hashes, **stored.get(EXTRA_HASHES, {})}}


def value_hash(value: Any) -> str:
    """Return the hash of a plain JSON value; equal numbers of any type have the same hash."""
    text = json.dumps(_canonical(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX_DIGITS]


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        rounded = float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
        return int(rounded) if rounded.is_integer() else rounded
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value
