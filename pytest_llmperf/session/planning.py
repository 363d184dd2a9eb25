"""Builds the plan of a measure stage from what was recorded and configured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.session.recorded import RecordedTest

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig


def make_plan(
    tests: Sequence[RecordedTest], perf: PerfConfig, start_seconds: float, *, paired: bool = False
) -> Plan:
    """Return the plan; without a configured seed the order is random, and the seed is kept."""
    budgets = {test.nodeid: test.budget or perf.test_budget for test in tests}
    return Plan(
        workloads={test.nodeid: test.workload for test in tests},
        recorded_seconds={test.nodeid: test.seconds for test in tests},
        start_seconds=start_seconds,
        perf=perf,
        seed=random.SystemRandom().getrandbits(32) if perf.seed is None else perf.seed,
        budget=perf.budget,
        paired=paired,
        test_budgets={nodeid: budget for nodeid, budget in budgets.items() if budget is not None},
    )
