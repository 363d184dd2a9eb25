"""Checks of the replicas behind a balancer: all serve the same model, and all still answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pytest_llmperf.engine.server.about import ServerDescription, root_of, status_of
from pytest_llmperf.engine.server.settings import ServerSettings, shown_url


def replica_difference(servers: Sequence[tuple[str, ServerDescription]]) -> str:
    """Explain how the first two unlike servers differ, and the fix; empty if all are alike.

    ``servers``: each server's address and account of itself.
    """
    (first, about), *others = servers
    for address, other in others:
        for aspect, ours, theirs in (
            ("models", about.identity, other.identity),
            ("builds", about.build, other.build),
            ("context sizes", about.n_ctx, other.n_ctx),
        ):
            if ours != theirs:
                return (
                    f"the replicas serve different {aspect}: {ours or 'unknown'} at {first}, "
                    f"{theirs or 'unknown'} at {address}; start all of them alike, and name each "
                    "in llm.replicas"
                )
    return ""


async def unreachable(servers: Sequence[ServerSettings]) -> list[str]:
    """Return the addresses at which no server answers."""
    asking = (status_of(f"{root_of(server.url)}/health", server.proxy) for server in servers)
    statuses = await asyncio.gather(*asking)
    return [shown_url(s.url) for s, status in zip(servers, statuses, strict=True) if status is None]
