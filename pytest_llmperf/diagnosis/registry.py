"""The registry of causes, and the search for them in a situation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.diagnosis.cause import Cause, FoundCause
from pytest_llmperf.diagnosis.cpu_causes import CPU_CAUSES
from pytest_llmperf.diagnosis.gpu_causes import GPU_CAUSES
from pytest_llmperf.diagnosis.machine_causes import MACHINE_CAUSES
from pytest_llmperf.diagnosis.memory_causes import MEMORY_CAUSES
from pytest_llmperf.diagnosis.server_causes import SERVER_CAUSES
from pytest_llmperf.diagnosis.settings_causes import SETTINGS_CAUSES

if TYPE_CHECKING:
    from pytest_llmperf.diagnosis.situation import Situation

CAUSES: tuple[Cause, ...] = (
    *GPU_CAUSES,
    *CPU_CAUSES,
    *SETTINGS_CAUSES,
    *MEMORY_CAUSES,
    *SERVER_CAUSES,
    *MACHINE_CAUSES,
)


def examine(situation: Situation) -> tuple[FoundCause, ...]:
    """Return the causes found, the most costly (estimated) first."""
    causes = [
        FoundCause(cause, evidence)
        for cause in CAUSES
        if (evidence := cause.look(situation)) is not None
    ]
    return tuple(sorted(causes, key=lambda cause: -cause.evidence.slower))
