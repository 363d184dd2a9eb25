"""The protocol between the plugin and a worker: JSON lines over pipes.

Both sides have the same version: a worker runs this very copy of the package (``bootstrap.py``).
The worker speaks first: ``{"event": "hello"}``. Then every command ``{"id": n, "op": ..., ...}``
is answered by any number of ``token`` and ``turn`` events and exactly one ``done`` or ``error``
event that carries the same id.
After a ``turn`` event the worker waits for the command ``go_on``, which has no answer of its own.

After a failed ``configure`` the engine serves nothing until one succeeds.

==========  ====================================  ==============================
op          fields                                ``done`` carries
==========  ====================================  ==============================
load        engine, config, plant (optional)      info
configure   config                                info
generate    request, turn (tokens, optional)      generation
go_on
reset                                             nothing
modules     names                                 {name: file} of those imported
send_load   requests, schedule                    load result (``engine/server/load_result.py``)
vocabulary                                        size, sha256, bos
tokenize    text                                  token ids
score       tokens, first, top, samples, at       scores (``engine/token_scores.py``)
close                                             nothing; the worker then exits
==========  ====================================  ==============================
"""

from __future__ import annotations

import json
from typing import Any

#: Fields of each event, besides its id.
_EVENT_FIELDS = {
    "hello": (),
    "token": ("token", "text", "t"),
    "turn": ("tokens",),
    "done": ("result",),
    "error": ("kind", "message"),
}
# Bound now: an application may replace functions of the module.
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as one line; JSON escapes every newline and lone surrogate inside."""
    return _to_json(message).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Parse a line into a message.

    Raises:
        ValueError: it is not a JSON object.
    """
    message = _from_json(line.decode("utf-8"))
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def decode_event(line: bytes) -> dict[str, Any]:
    """Parse a line that a worker wrote.

    Raises:
        ValueError: it is not an event of the protocol: something else wrote to the pipe.
    """
    message = decode(line)
    fields = _EVENT_FIELDS.get(str(message.get("event")))
    if fields is None or any(field not in message for field in fields):
        raise ValueError("not an event of the protocol")
    return message
