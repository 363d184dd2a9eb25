"""The replicas behind a balancer: whether they serve the same, and whether all still answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pytest_llmperf.engine.server.about import About, root_of, status_of
from pytest_llmperf.engine.server.settings import ServerSettings, shown_url


def difference(servers: Sequence[tuple[str, About]]) -> str:
    """Return in what the first two unlike servers differ, and the fix; empty if all are alike.

    ``servers``: address and account of each.
    """
    (first, about), *others = servers
    for address, other in others:
        for what, one, another in (
            ("models", about.identity, other.identity),
            ("builds", about.build, other.build),
            ("context sizes", about.n_ctx, other.n_ctx),
        ):
            if one != another:
                return (
                    f"the replicas serve different {what}: {one or 'unknown'} at {first}, "
                    f"{another or 'unknown'} at {address}; start all of them alike, and name each "
                    "in llm.replicas"
                )
    return ""


async def silent(servers: Sequence[ServerSettings]) -> list[str]:
    """Return the addresses at which no server answers."""
    asking = (status_of(f"{root_of(one.url)}/health", one.proxy) for one in servers)
    found = await asyncio.gather(*asking)
    return [shown_url(o.url) for o, status in zip(servers, found, strict=True) if status is None]
