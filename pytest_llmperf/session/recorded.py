"""A recorded test: its workload and its checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.measure.workload import Workload


@dataclass(frozen=True)
class RecordedTest:
    """One test whose body has run.

    Attributes:
        nodeid: its name.
        workload: its requests to the engine.
        seconds: how long they took, inside generation.
        checks: the metrics to gate or show.
        budget: seconds that may go into replaying it; None takes ``perf.test_budget``.
    """

    nodeid: str
    workload: Workload
    seconds: float
    checks: Sequence[Check]
    budget: float | None = None
