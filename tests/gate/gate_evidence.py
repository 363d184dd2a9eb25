"""Builders of evidence for the gate's tests from a few numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.samples import BaselineSamples
from pytest_llmperf.gate.check import Check, Evidence, Pairs
from pytest_llmperf.metrics import get_metric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmperf.gate.check import Samples

NODEID = "tests/perf/test_chat.py::test_short_answer"
#: Differences between processes of a quiet machine; their mean is 0.
QUIET = (0.006, -0.009, 0.003, -0.004, 0.008, -0.004, 0.002, -0.007, 0.005, 0.0)

#: Four differences between negligible and the tolerance, too few to decide.
GREY = (0.01, 0.05, 0.02, 0.06)


def rows(medians: Iterable[float]) -> Samples:
    """Return samples of one process per median, each of three equal iterations."""
    return tuple((value,) * 3 for value in medians)


def baseline(*sessions: float, anchor: tuple[float, ...] = (), start: int = 1) -> BaselineSamples:
    """Return a baseline of one session per median, each of three equal processes."""
    numbers = range(start, start + len(sessions))
    return BaselineSamples(
        "ok",
        tuple(rows((value,) * 3) for value in sessions),
        tuple(f"session {number}" for number in numbers),
        anchor=tuple(rows((value,) * 3) for value in anchor),
        anchor_sources=tuple(f"anchor {number}" for number in range(1, len(anchor) + 1)),
    )


def evidence(*medians: float, metric: str = "end_to_end", **fields: Any) -> Evidence:
    """Return evidence of one process per median; defaults: 3 planned, 5% tolerance, ended."""
    limit = fields.pop("limit", None)
    gated = fields.pop("gated", True)
    tolerance = fields.pop("tolerance", 0.05)
    fields.setdefault("planned_processes", 3)
    fields.setdefault("nodeid", NODEID)
    fields.setdefault("ended", True)
    fields.setdefault("samples", rows(medians))
    return Evidence(check=Check(get_metric(metric), limit, tolerance, gated), **fields)


def paired(*slowdowns: float, metric: str = "end_to_end", **fields: Any) -> Evidence:
    """Return evidence of pairs from the log slowdown of the candidate in each."""
    sign = -1.0 if get_metric(metric).limit_kind == "min" else 1.0
    candidate = rows(math.exp(sign * slowdown) for slowdown in slowdowns)
    pairs = Pairs(candidate, rows(1.0 for _ in slowdowns), "other.yaml", 30.0)
    return evidence(metric=metric, samples=candidate, pairs=pairs, **fields)


def stall_evidence(candidate: Samples, base: Samples | None = None, **fields: Any) -> Evidence:
    """Return evidence of a stall rate from rows of 1 (stalled) and 0 per process."""
    pairs = Pairs(candidate, base, "other.yaml", 30.0) if base is not None else None
    fields.setdefault("tolerance", 0.2)
    return evidence(metric="stall_rate", samples=candidate, pairs=pairs, **fields)


def quiet_differences(by: float, pairs: int = 10) -> tuple[float, ...]:
    """Return as many differences of a quiet machine as pairs, all shifted by ``by``."""
    return tuple(by + QUIET[index % len(QUIET)] for index in range(pairs))
