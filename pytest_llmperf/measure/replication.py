"""The unit of replication: what gives one independent sample of a test.

Iterations in one process are not independent: they share its memory, the places of its threads
and its moment. So a fresh process is the unit, and the median of its iterations is one sample.

A server that runs already can't be restarted. Its unit is a block: a fresh process of the client
with a connection of its own, after a pause. Blocks share the server's process, so they are less
independent than fresh processes of an engine; ``llmperf calibrate`` measures how much that matters.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.engine_kinds import EngineKind, EngineKindError


@dataclass(frozen=True)
class ReplicationUnit:
    """What one sample comes from.

    Attributes:
        name: its name in texts.
        pause_seconds: pause before each, for what the one before has left behind.
    """

    name: str
    pause_seconds: float = 0.0


#: A process of its own, started for the sample and ended after it.
FRESH_PROCESS = ReplicationUnit("process")
#: A fresh client of a server that runs on.
BLOCK = ReplicationUnit("block", pause_seconds=1.0)


def replication_unit(kind: EngineKind) -> ReplicationUnit:
    """Return what gives independent samples of an engine of this kind.

    Raises:
        EngineKindError: nothing does, so that it can't be judged.
    """
    if not kind.restarts and not kind.computes_here:
        return BLOCK
    if not kind.restarts:
        raise EngineKindError(
            f"the engine {kind.name!r} can't be measured: it can't be restarted, and only samples "
            "of fresh processes are independent; take an engine that can"
        )
    return FRESH_PROCESS
