"""A test as far as measuring goes: what it asked of the engine, and what it is held to."""

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
        workload: what it asked of the engine.
        seconds: how long that took, inside generation.
        checks: what is gated or shown.
        budget: seconds that may go into replaying it; None takes ``perf.test_budget``.
    """

    nodeid: str
    workload: Workload
    seconds: float
    checks: Sequence[Check]
    budget: float | None = None
