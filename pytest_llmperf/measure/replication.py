"""The unit of replication: the source of one independent sample of a test.

Iterations in one process are not independent: they share its memory, the placement of its threads
and its moment in time. So a fresh process is the unit, and the median of its iterations one sample.

A server that runs already can't be restarted. Its unit is a block: a fresh client process with
its own connection, after a pause. Blocks share the server's process, so they are less independent
than fresh processes of an engine; ``llmperf calibrate`` measures how much that matters.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.engine_kinds import EngineKind, EngineKindError


@dataclass(frozen=True)
class ReplicationUnit:
    """A unit of replication: the source of one sample.

    Attributes:
        name: its name in texts.
        pause_seconds: pause before each unit, so that the after-effects of the previous one fade.
    """

    name: str
    pause_seconds: float = 0.0


#: A separate process, started for the sample and ended after it.
FRESH_PROCESS = ReplicationUnit("process")
#: A fresh client of a server that keeps running.
BLOCK = ReplicationUnit("block", pause_seconds=1.0)


def replication_unit(kind: EngineKind) -> ReplicationUnit:
    """Return the unit that gives independent samples of an engine of this kind.

    Raises:
        EngineKindError: there is none, so the engine can't be judged.
    """
    if not kind.restarts and not kind.computes_here:
        return BLOCK
    if not kind.restarts:
        raise EngineKindError(
            f"the engine {kind.name!r} can't be measured: it can't be restarted, and only samples "
            "from fresh processes are independent; use an engine that can be restarted"
        )
    return FRESH_PROCESS
