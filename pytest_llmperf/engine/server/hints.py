"""Hints for fixing a server's fault, to append to its message."""

from __future__ import annotations

from urllib.parse import urlsplit

from pytest_llmperf.engine.server.fault import ServerFault
from pytest_llmperf.engine.server.settings import ServerSettings, shown_url


def hint(
    fault: ServerFault, settings: ServerSettings, limit: str, silence: str | None = None
) -> str:
    """Return what to change after a fault; empty if there is no known fix.

    Args:
        fault: the fault.
        settings: settings of the server that was asked.
        limit: configuration key of the time that an answer may take.
        silence: configuration key of the time without a chunk; None if it is the same.
    """
    if fault.kind == "idle_timeout" and silence is not None:
        return f"; if it may be silent for longer, raise {silence}"
    if fault.kind in ("idle_timeout", "total_timeout"):
        return f"; if it needs longer, raise {limit}"
    if settings.proxy is not None and fault.status in (403, 407):
        return (
            f"; requests go through the proxy {shown_url(settings.proxy)}: if it is the one that "
            "refuses, put its user and password into the environment variable "
            f"{urlsplit(settings.url).scheme}_proxy, or turn off llm.proxy_from_environment"
        )
    if fault.status in (401, 403):
        return (
            "; put the server's key into an environment variable, and its name into "
            "llm.api_key_env, or into llm.header_env for another header than Authorization"
        )
    if fault.status == 404:
        return "; llm.api says which API is asked, llm.model which model"
    return ""
