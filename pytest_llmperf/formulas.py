"""Formulas of the metrics, over the timelines of one iteration's requests; None if undefined.

A time below the clock's resolution, read as zero, is undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pytest_llmperf.timeline import Timeline


def _decode(timelines: Sequence[Timeline]) -> tuple[int, float]:
    """Return pooled decode steps and the seconds they took, over all requests."""
    steps, seconds = 0, 0.0
    for timeline in timelines:
        if timeline.output_tokens >= 2:
            steps += timeline.output_tokens - 1
            seconds += timeline.token_times[-1] - timeline.token_times[0]
    return steps, seconds


def tokens_per_sec(timelines: Sequence[Timeline]) -> float | None:
    """Return decode throughput, steps and seconds pooled over requests."""
    steps, seconds = _decode(timelines)
    return steps / seconds if steps and seconds > 0 else None


def time_per_output_token(timelines: Sequence[Timeline]) -> float | None:
    """Return seconds per decode step, pooled over requests."""
    steps, seconds = _decode(timelines)
    return seconds / steps if steps and seconds > 0 else None


def prefill_tokens_per_sec(timelines: Sequence[Timeline]) -> float | None:
    """Return prompt tokens evaluated per second, pooled over requests."""
    tokens, seconds = 0, 0.0
    for timeline in timelines:
        start, end = timeline.t_prefill_start, timeline.t_prefill_end
        if timeline.prompt_tokens_evaluated is None or start is None or end is None:
            return None
        tokens += timeline.prompt_tokens_evaluated
        seconds += end - start
    return tokens / seconds if tokens and seconds > 0 else None


def first_token(timelines: Sequence[Timeline]) -> float | None:
    """Return the median of the requests' times to the first token, seconds."""
    firsts = [t.token_times[0] - t.t_start for t in timelines if t.token_times]
    return (median(firsts) or None) if firsts else None


def end_to_end(timelines: Sequence[Timeline]) -> float | None:
    """Return the sum of the requests' durations, seconds."""
    if not timelines or any(not t.token_times for t in timelines):
        return None
    return sum(t.token_times[-1] - t.t_start for t in timelines) or None


def inter_token(timelines: Sequence[Timeline]) -> float | None:
    """Return the median gap between tokens over all requests, seconds."""
    gaps = [gap for timeline in timelines for gap in timeline.gaps()]
    return (median(gaps) or None) if gaps else None


def not_in_timelines(_: Sequence[Timeline]) -> None:
    """Return None: the metric is measured outside of the generations."""
