"""The versioned protocol between the plugin and a worker: JSON lines over pipes.

The worker speaks first: ``{"event": "hello", "protocol": 1, ...}``. Then every
command ``{"id": n, "op": ..., ...}`` is answered by any number of ``token``
events and exactly one ``done`` or ``error`` event that carries the same id.

========  =======================================  ==============================
op        fields                                   ``done`` carries
========  =======================================  ==============================
load      engine, config, plant (optional)         info
generate  request                                  generation
reset                                              nothing
modules   names                                    {name: file} of those imported
close                                              nothing; the worker then exits
========  =======================================  ==============================
"""

from __future__ import annotations

import json
from typing import Any

PROTOCOL_VERSION = 1


def encode(message: dict[str, Any]) -> bytes:
    """Return one line; JSON escapes every newline and lone surrogate inside."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Parse one line.

    Raises:
        ValueError: it is not a JSON object.
    """
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message
