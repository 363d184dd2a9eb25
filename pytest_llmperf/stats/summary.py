"""Robust summaries of samples, with the process as the unit of replication.

Iterations inside one process are not independent, so a process counts once, with
the median of its iterations. Slow iterations are never removed: the median
absorbs them and ``stalls`` counts them.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmperf.stats.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Confidence of every interval the plugin shows.
LEVEL = 0.95
#: An iteration this many times longer than its process's median is a stall.
STALL_FACTOR = 1.25

_LOG_MAX = math.log(sys.float_info.max)


@dataclass(frozen=True)
class Summary:
    """Summary of one metric's samples, in the metric's base unit.

    Attributes:
        value: the median over the units of replication.
        low: lower end of the interval, or None with only one unit.
        high: upper end of the interval, or None with only one unit.
        processes: number of processes.
        iterations: number of iterations, over all processes.
        level: confidence of the interval.
    """

    value: float
    low: float | None
    high: float | None
    processes: int
    iterations: int
    level: float = LEVEL


def process_medians(
    samples: Sequence[Sequence[float]], resolution: float | None = None
) -> list[float]:
    """Return each process's median; shape (processes, iterations) -> (processes,).

    ``resolution``: resolution of a metric that may be zero (``Metric.resolution``).

    Raises:
        ValueError: there is no process, a process has no iterations, or a value is not finite,
            below zero, or zero for a metric that can't be zero.
    """
    if not samples:
        raise ValueError("no samples: no process measured anything")
    for number, process in enumerate(samples, start=1):
        if not process:
            raise ValueError(f"process {number} has no iterations")
        for value in process:
            if not (math.isfinite(value) and (value > 0.0 or (value == 0.0 and resolution))):
                expected = "of 0 or more" if resolution else "above 0"
                raise ValueError(
                    f"process {number} measured {value!r}, expected a number {expected}"
                )
    return [median(process) for process in samples]


def summarise(samples: Sequence[Sequence[float]], resolution: float | None = None) -> Summary:
    """Summarise one session's samples, shape (processes, iterations).

    The value is the median of the per-process medians. The interval is
    Student's t on the logarithms of those medians, centred on the value. It
    assumes that processes are independent and alike and that their medians are
    roughly log-normal, so that median and geometric mean coincide. One process
    shows no spread between processes and gets no interval. For a metric that may
    be zero, values below its ``resolution`` are raised to it on the logarithmic scale.

    Raises:
        ValueError: as ``process_medians``.
    """
    return _summary(process_medians(samples, resolution), samples, resolution)


def summarise_sessions(
    sessions: Sequence[Sequence[Sequence[float]]], resolution: float | None = None
) -> Summary:
    """Summarise several sessions, shape (sessions, processes, iterations).

    The value is the median over sessions of each session's median of per-process
    medians; the session is the unit of replication, so one session gets no interval.

    Raises:
        ValueError: there is no session, or as ``process_medians``.
    """
    if not sessions:
        raise ValueError("no samples: no session measured anything")
    values = [median(process_medians(session, resolution)) for session in sessions]
    return _summary(values, [process for session in sessions for process in session], resolution)


def stalls(durations: Sequence[Sequence[float]]) -> int:
    """Count iterations longer than 1.25 times their process's median.

    ``durations``: seconds, shape (processes, iterations); pass end-to-end times.

    Raises:
        ValueError: as ``process_medians``.
    """
    middles = process_medians(durations)
    return sum(
        value > STALL_FACTOR * middle
        for middle, process in zip(middles, durations, strict=True)
        for value in process
    )


def stalled(durations: Sequence[Sequence[float]], centre: float) -> tuple[tuple[bool, ...], ...]:
    """Mark the iterations that took longer than 1.25 times ``centre``; same shape as ``durations``.

    ``durations``: seconds, shape (processes, iterations). ``centre``: seconds, the median
    of the process medians of all the processes compared, so that a process that is
    slow throughout counts as stalled, which ``stalls`` cannot see.

    Raises:
        ValueError: as ``process_medians``, or ``centre`` is not positive and finite.
    """
    if not (math.isfinite(centre) and centre > 0.0):
        raise ValueError(f"the centre of durations must be a number above 0, got {centre!r}")
    process_medians(durations)
    limit = STALL_FACTOR * centre
    return tuple(tuple(value > limit for value in process) for process in durations)


def _summary(
    values: Sequence[float], processes: Sequence[Sequence[float]], resolution: float | None
) -> Summary:
    """Return median and interval of ``values``, with the numbers of processes and iterations."""
    value = median(values)
    floor = resolution or 0.0
    low, high = _interval([max(middle, floor) for middle in values], max(value, floor))
    if low is not None and high is not None:
        # An end below the resolution counts as zero, and the value must lie between the ends.
        low, high = (0.0 if low <= floor else low), (value if high <= floor else high)
    return Summary(value, low, high, len(processes), sum(len(p) for p in processes))


def _interval(values: Sequence[float], centre: float) -> tuple[float | None, float | None]:
    """Return Student's t interval at ``LEVEL`` around ``centre``, from the logs of ``values``."""
    count = len(values)
    if count < 2:
        return None, None
    logs = [math.log(value) for value in values]
    middle = math.fsum(logs) / count
    # Not statistics.stdev, which is exact and a hundred times slower.
    spread = math.sqrt(math.fsum((log - middle) ** 2 for log in logs) / (count - 1))
    half = t_quantile(0.5 + LEVEL / 2.0, count - 1) * spread / math.sqrt(count)
    # Two wildly different processes can push the ends beyond the range of a float.
    factor = math.exp(min(half, _LOG_MAX))
    return max(centre / factor, sys.float_info.min), min(centre * factor, sys.float_info.max)
