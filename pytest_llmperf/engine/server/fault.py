"""Faults between client and server, by kind; their messages never contain the key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.server.answer import Chunk
from pytest_llmperf.engine.server.settings import HIDDEN

#: ``connect``: no connection. ``status``: an HTTP status other than 200. ``idle_timeout``: silent
#: for too long. ``total_timeout``: not finished in time. ``reset``: the connection broke.
#: ``bad_frame``: the response is not an answer of this API. ``server_error``: the server reported a
#: failure within the stream. ``cut_short``: the stream ended before the answer did.
FaultKind = Literal[
    "connect",
    "status",
    "idle_timeout",
    "total_timeout",
    "reset",
    "bad_frame",
    "server_error",
    "cut_short",
]
_MAX_EXCERPT = 500


class ServerFault(EngineError):  # noqa: N818
    """A request that got no complete answer.

    Attributes:
        kind: kind of the fault.
        status: HTTP status, or None if none was received.
        at: when the fault was noticed, seconds on the client's clock.
        sent: when the request was sent, or None if it wasn't.
        chunks: chunks of the answer that had arrived.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        at: float,
        status: int | None = None,
        sent: float | None = None,
        chunks: tuple[Chunk, ...] = (),
    ) -> None:
        super().__init__(message)
        self.kind: FaultKind = kind
        self.status = status
        self.at = at
        self.sent = sent
        self.chunks = chunks


def excerpt(data: bytes, secrets: Iterable[str]) -> str:
    """Return the beginning of a server's data without secrets, for a message."""
    text = data.decode(errors="replace")
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_EXCERPT else f"{text[:_MAX_EXCERPT]} ..."
