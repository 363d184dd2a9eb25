"""Time spans of an engine's generations on the sampler's clock, and their readings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.timeline import Timeline

#: Whether ``time.perf_counter`` is one clock for all processes (CLOCK_MONOTONIC). Elsewhere a
#: timeline is shifted so that its last token coincides with the observed end of the iteration,
#: which is late by the transfer between the processes: about a millisecond.
SHARED_CLOCK = sys.platform.startswith("linux")


@dataclass(frozen=True)
class Span:
    """Time span of one generation, in seconds on the sampler's clock.

    Attributes:
        start: start of the prompt.
        first, last: arrival of the first and the last output token.
        tokens: number of output tokens.
    """

    start: float
    first: float
    last: float
    tokens: int


def spans_of(
    timelines: Sequence[Timeline], now: float, *, shared_clock: bool = SHARED_CLOCK
) -> list[Span]:
    """Return the spans of the generations of an iteration that was over at ``now``."""
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


def while_decoding(
    readings: Sequence[CounterReading], spans: Iterable[Span]
) -> list[CounterReading]:
    """Return the readings taken between first and last token of a span."""
    windows = [(span.first, span.last) for span in spans if span.tokens > 1]
    return [reading for reading in readings if any(a <= reading.t <= b for a, b in windows)]


def between(readings: Sequence[CounterReading], begin: float, end: float) -> list[CounterReading]:
    """Return the readings within a time interval."""
    return [reading for reading in readings if begin <= reading.t <= end]


def throughout(readings: Sequence[CounterReading], spans: Sequence[Span]) -> list[CounterReading]:
    """Return the readings from the first prompt to the last token, and the last ones before it.

    The latter are the last reading and the last that lists processes: an engine's memory is read
    rarely, and is the same at the start of the prompt.
    """
    if not spans:
        return []
    begin, end = spans[0].start, spans[-1].last
    before = [reading for reading in readings if reading.t < begin]
    listed = [reading for reading in before if reading.processes is not None][-1:]
    last = [reading for reading in before[-1:] if reading not in listed]
    return [*listed, *last, *between(readings, begin, end)]
