"""Finds that a server which runs already was still warming up while it was measured.

A fresh process is as cold in one sample as in the next. A server that runs on may still be filling
caches or compiling kernels: then its first blocks say nothing about the later ones.
"""

from __future__ import annotations

from statistics import median

from pytest_llmperf.gate.check import Samples
from pytest_llmperf.metrics import Metric
from pytest_llmperf.stats.summary import process_medians
from pytest_llmperf.stats.trend import falling_p
from pytest_llmperf.units import format_quantity

#: Chance of finding it in blocks whose order means nothing. Four fall in order in 4% of cases.
_CHANCE, _LEAST_BLOCKS = 0.01, 5


def unchecked(blocks: int) -> str:
    """Return that so few blocks can't show whether a server was warming up; else ``""``."""
    if not 0 < blocks < _LEAST_BLOCKS:
        return ""
    return (
        "whether the server was still warming up was not checked: that needs "
        f"{_LEAST_BLOCKS} blocks (perf.processes: {_LEAST_BLOCKS}), and this session has {blocks}"
    )


def warming_up(metric: Metric, blocks: Samples, tolerance: float) -> str:
    """Return that blocks, in the order of their measuring, got better and better; else ``""``.

    Args:
        metric: of the values.
        blocks: its values in each block.
        tolerance: of the check; a change of less than half of it is none.
    """
    if metric.kind != "value" or len(blocks) < 2:
        return ""
    levels = process_medians(blocks, metric.resolution)
    if falling_p([metric.badness(one) for one in levels]) > _CHANCE:
        return ""
    half = len(levels) // 2
    first, last = median(levels[:half]), median(levels[-half:])
    if metric.slowdown(first, last) <= tolerance / 2:
        return ""
    before, after = (format_quantity(one, metric.unit) for one in (first, last))
    return (
        f"the server was still warming up: {metric.label} went from {before} in the first {half} "
        f"blocks to {after} in the last {half}; send it requests for a while, then measure again"
    )
