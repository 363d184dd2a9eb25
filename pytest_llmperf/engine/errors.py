"""Errors of an engine; every message is complete by itself."""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """The engine refused or failed a request; it lives on and can take another."""


class EngineLoadError(EngineError):
    """The engine could not load its model or its target."""


class EngineGoneError(EngineError):
    """The worker process, or the server that it started, crashed, hung or was killed."""


#: How many of the engine's last log lines an error shows.
LOG_TAIL = 12
#: Prefix of each of those lines.
LOG_LINE = "  | "
#: How many it shows after a crash: the threads' stacks follow the engine's own lines.
CRASH_TAIL = 40


def with_log_tail(
    message: str, log: Sequence[str], hint: str | None = None, lines: int = LOG_TAIL
) -> str:
    """Append the engine's last log ``lines`` and a hint to ``message``."""
    parts = [message]
    tail = [line for line in log if line.strip()][-lines:]
    if tail:
        parts.append("last lines of the engine's log:")
        parts.extend(f"{LOG_LINE}{line}" for line in tail)
    if hint:
        parts.append(f"hint: {hint}")
    return "\n".join(parts)
