"""Builds evidence for the gate's tests out of a few numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_llmperf.baselines.evidence import BaselineSamples
from pytest_llmperf.gate.check import Check, Evidence, Pairs
from pytest_llmperf.metrics import get_metric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmperf.gate.check import Samples

NODEID = "tests/perf/test_chat.py::test_short_answer"
#: Differences between processes of a quiet machine; their mean is 0.
QUIET = (0.006, -0.009, 0.003, -0.004, 0.008, -0.004, 0.002, -0.007, 0.005, 0.0)

#: Four differences that lie between negligible and the tolerance, too few to tell.
GREY = (0.01, 0.05, 0.02, 0.06)


def rows(medians: Iterable[float]) -> Samples:
    """Three equal iterations per process."""
    return tuple((value,) * 3 for value in medians)


def baseline(*sessions: float, anchor: tuple[float, ...] = (), start: int = 1) -> BaselineSamples:
    """A baseline of sessions given as one median each, in three processes."""
    numbers = range(start, start + len(sessions))
    return BaselineSamples(
        "ok",
        tuple(rows((value,) * 3) for value in sessions),
        tuple(f"session {number}" for number in numbers),
        anchor=tuple(rows((value,) * 3) for value in anchor),
        anchor_sources=tuple(f"anchor {number}" for number in range(1, len(anchor) + 1)),
    )


def evidence(*medians: float, metric: str = "end_to_end", **fields: Any) -> Evidence:
    """Evidence of one process per median; 3 planned, 5% tolerance, no target, all measured."""
    limit = fields.pop("limit", None)
    gated = fields.pop("gated", True)
    tolerance = fields.pop("tolerance", 0.05)
    fields.setdefault("planned_processes", 3)
    fields.setdefault("nodeid", NODEID)
    fields.setdefault("ended", True)
    fields.setdefault("samples", rows(medians))
    return Evidence(check=Check(get_metric(metric), limit, tolerance, gated), **fields)


def paired(*slowdowns: float, metric: str = "end_to_end", **fields: Any) -> Evidence:
    """Evidence of pairs, given how much worse the candidate was in each, on the log scale."""
    sign = -1.0 if get_metric(metric).limit_kind == "min" else 1.0
    candidate = rows(math.exp(sign * slowdown) for slowdown in slowdowns)
    pairs = Pairs(candidate, rows(1.0 for _ in slowdowns), "other.yaml", 30.0)
    return evidence(metric=metric, samples=candidate, pairs=pairs, **fields)


def stalling(candidate: Samples, base: Samples | None = None, **fields: Any) -> Evidence:
    """Evidence of a stall rate: rows of 1 (stalled) and 0 per process."""
    pairs = Pairs(candidate, base, "other.yaml", 30.0) if base is not None else None
    fields.setdefault("tolerance", 0.2)
    return evidence(metric="stall_rate", samples=candidate, pairs=pairs, **fields)


def shifted(by: float, pairs: int = 10) -> tuple[float, ...]:
    """That many differences of a quiet machine, all shifted by ``by``."""
    return tuple(by + QUIET[place % len(QUIET)] for place in range(pairs))
