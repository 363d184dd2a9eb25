"""The unit of replication: what gives one independent sample of a test.

Iterations in one process are not independent: they share its memory, the places of its threads
and its moment. So a fresh process is the unit, and the median of its iterations is one sample.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.engine_kinds import EngineKind, EngineKindError


@dataclass(frozen=True)
class ReplicationUnit:
    """What one sample comes from.

    Attributes:
        name, plural: its name in texts.
    """

    name: str
    plural: str

    def counted(self, number: int) -> str:
        """Return a number of them in words."""
        return f"{number} {self.name if number == 1 else self.plural}"


#: A process of its own, started for the sample and ended after it.
FRESH_PROCESS = ReplicationUnit("process", "processes")


def replication_unit(kind: EngineKind) -> ReplicationUnit:
    """Return what gives independent samples of an engine of this kind.

    Raises:
        EngineKindError: nothing does, so that it can't be judged.
    """
    if not kind.restarts:
        raise EngineKindError(
            f"the engine {kind.name!r} can't be measured: it can't be restarted, and only samples "
            "of fresh processes are independent; take an engine that can"
        )
    return FRESH_PROCESS
