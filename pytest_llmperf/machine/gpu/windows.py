"""When an engine decoded, on the sampler's clock, and the readings of those moments."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_llmperf.machine.gpu.counters import Reading
from pytest_llmperf.timeline import Timeline

#: Whether ``time.perf_counter`` is one clock for all processes (CLOCK_MONOTONIC). Elsewhere a
#: timeline is laid so that its last token came when its iteration was seen to be over, which is
#: late by the answer's way between the processes: a millisecond or so.
SHARED_CLOCK = sys.platform.startswith("linux")


@dataclass(frozen=True)
class Span:
    """One generation, seconds on the sampler's clock.

    Attributes:
        start: its prompt went in.
        first, last: its first and its last output token came.
        tokens: output tokens.
    """

    start: float
    first: float
    last: float
    tokens: int


def spans_of(
    timelines: Sequence[Timeline], now: float, *, shared_clock: bool = SHARED_CLOCK
) -> list[Span]:
    """Return the generations of an iteration that was over at ``now``."""
    ended = [timeline for timeline in timelines if timeline.token_times]
    if not ended:
        return []
    shift = 0.0 if shared_clock else now - ended[-1].token_times[-1]
    return [
        Span(
            timeline.t_start + shift,
            timeline.token_times[0] + shift,
            timeline.token_times[-1] + shift,
            timeline.output_tokens,
        )
        for timeline in ended
    ]


def while_decoding(readings: Sequence[Reading], spans: Iterable[Span]) -> list[Reading]:
    """Return the readings taken between a first and a last token."""
    windows = [(span.first, span.last) for span in spans if span.tokens > 1]
    return [one for one in readings if any(a <= one.t <= b for a, b in windows)]


def between(readings: Sequence[Reading], begin: float, end: float) -> list[Reading]:
    """Return the readings of a stretch of time."""
    return [one for one in readings if begin <= one.t <= end]


def throughout(readings: Sequence[Reading], spans: Sequence[Span]) -> list[Reading]:
    """Return the readings from the first prompt to the last token, and the last before them.

    That is the last of all, and the last that lists processes: what an engine holds is asked
    seldom, and it held that when the prompt went in.
    """
    if not spans:
        return []
    begin, end = spans[0].start, spans[-1].last
    before = [one for one in readings if one.t < begin]
    listed = [one for one in before if one.processes is not None][-1:]
    last = [one for one in before[-1:] if one not in listed]
    return [*listed, *last, *between(readings, begin, end)]
