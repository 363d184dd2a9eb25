"""Metrics from GPU counters: memory, utilization, power, energy; or why they are missing.

Energy and power need a long window: their counters step every few tens to hundreds of
milliseconds, so a window with fewer than ``MIN_UPDATES`` observed steps or ``MIN_SECONDS`` has no
value. The mean power between its first and last observed step is exact, and is used for the
whole window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Protocol

from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.machine.gpu.processes import GpuProcess
from pytest_llmperf.machine.gpu.telemetry import Track
from pytest_llmperf.machine.gpu.windows import Span, between, throughout, while_decoding
from pytest_llmperf.units import format_duration

MIN_UPDATES = 20
MIN_SECONDS = 2.0
#: Cards since Ampere report their power as the mean of the last second: half a second is unknown
#: at either end of a window, so the window must be long.
MIN_SECONDS_OF_POWER = 10.0
#: Minimum number of readings for a mean utilization.
_MIN_READINGS = 2
#: Growth of a card's memory that shows an engine whose own memory is not reported, bytes.
_AN_ENGINE = 32 << 20


class ProcessOwners(Protocol):
    """Lookup of the owner of a process."""

    def __getitem__(self, pid: int) -> GpuProcess:
        """Return the process with this pid."""


@dataclass(frozen=True)
class MetricReading:
    """A metric's value, or why there is none.

    Attributes:
        value: the value in base units, or None.
        why: why there is none, in words that continue "could not be measured:".
        remark: one sentence about an unusual way in which it was obtained; may be empty.
    """

    value: float | None
    why: str = ""
    remark: str = ""


def used_by_engine(tracks: Sequence[Track], owners: ProcessOwners) -> list[Track]:
    """Return the GPUs that the engine's process is on, as far as known.

    If the driver lists no process of the engine (a container), return the GPUs whose memory grew
    since before it started, or, if none did, those for which that is unknown.
    """
    listed = [track for track in tracks if any(_engines(r, owners) for r in track.readings)]
    if listed:
        return listed
    unknown = [track for track in tracks if is_unknown(track, owners)]
    grown = [track for track in unknown if (_grown(track) or 0) >= _AN_ENGINE]
    return grown or [track for track in unknown if _grown(track) is None]


def _engines(reading: CounterReading, owners: ProcessOwners) -> list[int | None]:
    """Return the bytes that each of the engine's processes holds, or None."""
    return [held for pid, held in (reading.processes or {}).items() if owners[pid].engine]


def is_unknown(track: Track, owners: ProcessOwners) -> bool:
    """Whether the engine may be on the GPU unseen: no process list, or pids of the host."""
    lists = [reading.processes for reading in track.readings if reading.processes is not None]
    return not lists or any(not owners[pid].visible for pids in lists for pid in pids)


def _grown(track: Track) -> int | None:
    used = [reading.memory_used for reading in track.readings if reading.memory_used is not None]
    return max(used) - track.used_before if used and track.used_before is not None else None


def memory_held(track: Track, owners: ProcessOwners) -> int | None:
    """Return the bytes that the engine holds on a GPU now; None if that is unknown.

    If the driver does not report them: the growth of the memory in use since before any engine.
    """
    known = [held for reading in track.readings[-1:] for held in _engines(reading, owners)]
    if known and None not in known:
        return sum(known)  # type: ignore[arg-type]
    return _grown(track)


def memory(
    tracks: Sequence[Track], owners: ProcessOwners, spans: Sequence[Span], *, shared: bool = False
) -> MetricReading:
    """Return the engine's peak memory during an iteration, summed over the GPUs.

    ``shared``: the other engine of a pair is on the GPUs, too, so only memory that the driver
    reports by process counts.
    """
    total, remarks = 0, []
    used = used_by_engine(tracks, owners)
    if not used:
        return MetricReading(None, _NOWHERE)
    for track in used:
        readings = throughout(track.readings, spans)
        own = [
            sum(held)  # type: ignore[arg-type]
            for reading in readings
            if (held := _engines(reading, owners)) and None not in held
        ]
        grown = [reading.memory_used for reading in readings if reading.memory_used is not None]
        if own:
            total += max(own)
        elif shared:
            return MetricReading(
                None,
                "the driver does not report memory by process (a container, MIG or Windows), "
                f"and {_SHARED}",
            )
        elif grown and track.used_before is not None:
            total += max(0, max(grown) - track.used_before)
            remarks.append(
                f"gpu_memory: the driver does not report the engine's memory on the "
                f"{track.facts.label} (a container, MIG or Windows); using memory in use minus "
                "memory in use before the engine started"
            )
        else:
            return MetricReading(
                None, f"the driver does not report the memory in use on the {track.facts.label}"
            )
    return MetricReading(float(total), remark="; ".join(remarks))


def utilization(
    tracks: Sequence[Track], owners: ProcessOwners, spans: Sequence[Span]
) -> MetricReading:
    """Return the mean share of time with a kernel running while decoding, over the GPUs used."""
    used = used_by_engine(tracks, owners)
    if not used:
        return MetricReading(None, _NOWHERE)
    means = []
    for track in used:
        readings = while_decoding(track.readings, spans)
        busy = [reading.gpu_busy for reading in readings if reading.gpu_busy is not None]
        # A single sample does not show this: not every one reads the load.
        if readings and all(reading.gpu_busy is None for reading in track.readings):
            return MetricReading(
                None, f"the driver does not report how busy the {track.facts.label} is"
            )
        if len(busy) < _MIN_READINGS:
            lasted = format_duration(sum(span.last - span.first for span in spans))
            return MetricReading(
                None,
                f"fewer than {_MIN_READINGS} samples were taken while decoding, which lasted "
                f"{lasted}: ask for more output tokens in the test",
            )
        means.append(fmean(busy))
    return MetricReading(fmean(means))


def power(
    tracks: Sequence[Track], owners: ProcessOwners, iterations: Sequence[Sequence[Span]]
) -> MetricReading:
    """Return the mean power of the GPUs used, in watts, over one process's counted iterations."""
    used = used_by_engine(tracks, owners)
    if not used:
        return MetricReading(None, _NOWHERE)
    spans = [span for iteration in iterations for span in iteration]
    if not spans:
        return MetricReading(None, "no iteration was counted")
    # Under load, the last request to start need not be the last to end.
    begin, end = spans[0].start, max(span.last for span in spans)
    total = 0.0
    for track in used:
        if track.facts.mig:
            return MetricReading(
                None,
                f"the {track.facts.name} is partitioned (MIG), and its power reading covers "
                "all slices",
            )
        mean = _mean_power(track, begin, end)
        if mean.value is None:
            return mean
        total += mean.value
    return MetricReading(total)


def energy_per_token(
    tracks: Sequence[Track], owners: ProcessOwners, iterations: Sequence[Sequence[Span]]
) -> MetricReading:
    """Return joules per output token over the counted iterations of one process.

    The window is from the first prompt to the last token, time between iterations included.
    """
    mean = power(tracks, owners, iterations)
    if mean.value is None:
        return mean
    spans = [span for iteration in iterations for span in iteration]
    seconds = max(span.last for span in spans) - spans[0].start
    return MetricReading(mean.value * seconds / sum(span.tokens for span in spans))


def _mean_power(track: Track, begin: float, end: float) -> MetricReading:
    readings = between(track.readings, begin, end)
    counter = [(r.t, r.energy_j) for r in readings if r.energy_j is not None]
    if counter:
        return _by_counter(counter, end - begin)
    drawn = [(r.t, r.power_w) for r in readings if r.power_w is not None]
    if not drawn:
        if any(r.power_w is not None or r.energy_j is not None for r in track.readings):
            return _too_short(end - begin, 0, None, MIN_SECONDS)
        return MetricReading(
            None, f"the driver reports neither energy nor power of the {track.facts.label}"
        )
    steps = len(drawn) - 1
    if steps < MIN_UPDATES or end - begin < MIN_SECONDS_OF_POWER:
        return _too_short(end - begin, steps, None, MIN_SECONDS_OF_POWER)
    areas = ((b - a) * (p + q) / 2 for (a, p), (b, q) in pairwise(drawn))
    return MetricReading(sum(areas) / (drawn[-1][0] - drawn[0][0]))


def _by_counter(counter: Sequence[tuple[float, float]], seconds: float) -> MetricReading:
    steps = list(_steps(counter))
    if len(steps) < MIN_UPDATES or seconds < MIN_SECONDS:
        interval = (steps[-1][0] - steps[0][0]) / (len(steps) - 1) if len(steps) > 1 else None
        return _too_short(seconds, len(steps), interval, MIN_SECONDS)
    (first, low), (last, high) = steps[0], steps[-1]
    return MetricReading((high - low) / (last - first))


def _steps(counter: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the observed steps of the counter: time and new value."""
    for (_, before), (t, after) in pairwise(counter):
        if after != before:
            yield t, after


def _too_short(
    seconds: float, updates: int, every: float | None, min_seconds: float
) -> MetricReading:
    needed = max(min_seconds, MIN_UPDATES * every) if every else min_seconds
    pace = f", one about every {every * 1000:.0f} ms" if every else ""
    return MetricReading(
        None,
        f"the iterations of a process lasted {format_duration(seconds)}, in which the card's "
        f"counter changed {updates} times{pace}; at least {format_duration(needed)} and "
        f"{MIN_UPDATES} changes are needed: ask for more output tokens in the test, or raise "
        "perf.iterations",
    )


_NOWHERE = "the engine's process used none of the GPUs that NVML reports"
_SHARED = (
    "the two processes of the pair took turns on one card (perf.turns: processes runs one after "
    "the other)"
)
#: Reading of a metric that is counted for a whole card, on a card shared with another engine.
NOT_BY_PROCESS = MetricReading(
    None, f"the card's counter is the sum of all processes, and {_SHARED}"
)

#: The metrics of this module.
GPU_METRICS = ("gpu_memory", "energy_per_token", "gpu_power", "gpu_utilization")
