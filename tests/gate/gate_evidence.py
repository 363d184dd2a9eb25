"""Builds evidence for the gate's tests out of a few numbers."""

from __future__ import annotations

from typing import Any

from pytest_llmperf.gate.check import BaselineView, Check, Evidence
from pytest_llmperf.metrics import get_metric

NODEID = "tests/perf/test_chat.py::test_short_answer"


def baseline(*sessions: tuple[float, ...]) -> BaselineView:
    """A baseline of sessions given as one median per process."""
    return BaselineView(
        "ok",
        tuple(tuple((value,) * 3 for value in session) for session in sessions),
        tuple(f"session {number}" for number in range(1, len(sessions) + 1)),
    )


def evidence(*medians: float, metric: str = "end_to_end", **fields: Any) -> Evidence:
    """Evidence of one process per median; 3 planned, 5% tolerance, no target."""
    limit = fields.pop("limit", None)
    gated = fields.pop("gated", True)
    fields.setdefault("planned_processes", 3)
    return Evidence(
        nodeid=NODEID,
        check=Check(get_metric(metric), limit, 0.05, gated),
        samples=tuple((value,) * 3 for value in medians),
        **fields,
    )
