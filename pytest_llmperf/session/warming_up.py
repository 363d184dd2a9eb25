"""Detects that a running server was still warming up while it was measured.

Fresh processes are equally cold in every sample. A server that keeps running may still be filling
caches or compiling kernels: then its first blocks say nothing about the later ones.
"""

from __future__ import annotations

from statistics import median

from pytest_llmperf.gate.check import Samples
from pytest_llmperf.metrics import Metric
from pytest_llmperf.stats.summary import process_medians
from pytest_llmperf.stats.trend import falling_p
from pytest_llmperf.units import format_quantity

#: Chance of a false alarm, and fewest blocks to check: four fall in order by chance in 4%.
_CHANCE, _LEAST_BLOCKS = 0.01, 5


def too_few_blocks_note(blocks: int) -> str:
    """Return a note if there are too few blocks to detect a warm-up; else ``""``."""
    if not 0 < blocks < _LEAST_BLOCKS:
        return ""
    return (
        "whether the server was still warming up was not checked: that needs "
        f"{_LEAST_BLOCKS} blocks (perf.processes: {_LEAST_BLOCKS}), and this session has {blocks}"
    )


def warm_up_message(metric: Metric, blocks: Samples, tolerance: float) -> str:
    """Return a message if the blocks, in the order measured, got better and better; else ``""``.

    Args:
        metric: the measured metric.
        blocks: its values in each block.
        tolerance: the check's tolerance; a change of up to half of it is ignored.
    """
    if metric.kind != "value" or len(blocks) < 2:
        return ""
    levels = process_medians(blocks, metric.resolution)
    if falling_p([metric.signed_log(level) for level in levels]) > _CHANCE:
        return ""
    half = len(levels) // 2
    first, last = median(levels[:half]), median(levels[-half:])
    if metric.slowdown(first, last) <= tolerance / 2:
        return ""
    before, after = (format_quantity(level, metric.unit) for level in (first, last))
    return (
        f"the server was still warming up: {metric.label} went from {before} in the first {half} "
        f"blocks to {after} in the last {half}; send it requests for a while, then measure again"
    )
