"""Whether the processes of a pair may live side by side and take turns by iterations."""

from __future__ import annotations

from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.machine.room import has_room_beside
from pytest_llmperf.session.watch_settings import WatchSettings


def fits_beside(settings: WatchSettings, turns: str, client: EngineClient) -> bool:
    """Whether another engine's process may live beside this one; ``turns`` as configured.

    On a GPU it may not: memory there is short, and a card's counters do not tell whose
    energy they count. An application may hold what is there only once, a port or a server
    of its own that the other process would then ask; so it has to be allowed to.
    """
    info = client.info
    on_gpu = settings.telemetry is not None or (info.gpu is not None and info.gpu.layers_on_gpu > 0)
    if on_gpu or turns == "processes" or (turns == "auto" and not client.kind.side_by_side):
        return False
    return has_room_beside(client.pid)
