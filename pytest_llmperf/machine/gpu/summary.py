"""Summaries of the GPUs' counters while an engine decoded, per device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.machine.gpu.course import CounterSeries, series_of
from pytest_llmperf.machine.gpu.devices import Gpu
from pytest_llmperf.machine.gpu.fitness import AT_POWER_LIMIT, POWER_CAP, THROTTLE_REASONS
from pytest_llmperf.machine.gpu.metrics import ProcessOwners, used_by_engine
from pytest_llmperf.machine.gpu.telemetry import Track
from pytest_llmperf.machine.gpu.windows import Span, throughout, while_decoding


@dataclass(frozen=True)
class Spread:
    """Samples of one counter: number, mean, lowest and highest."""

    samples: int
    mean: float
    low: float
    high: float

    def joined(self, other: Spread) -> Spread:
        """Return the spread of both sets of samples together."""
        count = self.samples + other.samples
        mean = (self.mean * self.samples + other.mean * other.samples) / count
        return Spread(count, mean, min(self.low, other.low), max(self.high, other.high))


#: The counters of a reading that a summary includes.
_COUNTERS = (
    *("gpu_busy", "memory_busy", "memory_used", "memory_free", "power_w", "temperature_c"),
    *("sm_mhz", "memory_mhz", "pcie_generation", "pcie_width", "ecc_corrected", "ecc_uncorrected"),
)
#: Counters of a card's total work, which belongs to no single engine where two take turns.
_OF_ALL_WORK = frozenset({"gpu_busy", "memory_busy", "power_w"})


@dataclass(frozen=True)
class DeviceSummary:
    """Summary of one GPU while the engine decoded.

    Attributes:
        facts: its constant facts.
        used: whether the engine's process was on it, as far as known.
        samples: number of readings while decoding.
        counters: by name, those that were read: ``gpu_busy`` and ``memory_busy`` as shares,
            ``memory_used`` and ``memory_free`` in bytes, ``engine_memory`` and
            ``other_memory`` (bytes of the engine's processes, and of all else in use; these
            two from the last list of processes before the first prompt on),
            ``power_w``, ``temperature_c``, ``sm_mhz``, ``memory_mhz``, ``pcie_generation``,
            ``pcie_width``, ``ecc_corrected``, ``ecc_uncorrected``.
        reasons: in how many of the samples the card gave each reason for lowered clocks.
        xids: critical errors that the driver reported meanwhile.
        lost: the card stopped answering.
        course: the main counters over time.
    """

    facts: Gpu
    used: bool
    samples: int
    counters: dict[str, Spread] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    xids: tuple[int, ...] = ()
    lost: bool = False
    course: CounterSeries = field(default_factory=CounterSeries)

    @property
    def at_power_limit(self) -> bool:
        """Whether the card lowered its clocks at its power limit."""
        return AT_POWER_LIMIT in self.reasons

    def joined(self, other: DeviceSummary) -> DeviceSummary:
        """Return the union with the summary of another engine process on the same GPU."""
        counters = dict(self.counters)
        for name, spread in other.counters.items():
            counters[name] = counters[name].joined(spread) if name in counters else spread
        names = dict.fromkeys([*self.reasons, *other.reasons])
        return DeviceSummary(
            self.facts,
            self.used or other.used,
            self.samples + other.samples,
            counters,
            {name: self.reasons.get(name, 0) + other.reasons.get(name, 0) for name in names},
            (*self.xids, *other.xids),
            self.lost or other.lost,
            self.course.joined(other.course),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; the GPU's facts are stored with the session."""
        return {
            "gpu": self.facts.index,
            "uuid": self.facts.uuid,
            "used": self.used,
            "samples": self.samples,
            "counters": {
                name: {"mean": spread.mean, "min": spread.low, "max": spread.high}
                for name, spread in self.counters.items()
            },
            "lowered_clocks": dict(self.reasons),
            "xids": list(self.xids),
            "lost": self.lost,
            "course": self.course.to_json(),
        }


@dataclass(frozen=True)
class TelemetrySummary:
    """Summary of all GPUs that an engine may use, while it decoded.

    Attributes:
        devices: one per GPU, in the engine's order.
        hz: sampling rate; 0 without samples.
    """

    devices: tuple[DeviceSummary, ...]
    hz: float = 0.0


def summarise(
    tracks: Sequence[Track], owners: ProcessOwners, spans: Iterable[Span], *, shared: bool = False
) -> TelemetrySummary:
    """Summarise the readings taken while decoding; without generations, all of them.

    ``shared``: another engine of this session is on the GPUs, too; power and load are left out.
    """
    spans, used_ids = list(spans), {id(track) for track in used_by_engine(tracks, owners)}
    devices = []
    for track in tracks:
        readings = while_decoding(track.readings, spans) if spans else track.readings
        listed = throughout(track.readings, spans) if spans else track.readings
        devices.append(
            DeviceSummary(
                facts=track.facts,
                used=id(track) in used_ids,
                samples=len(readings),
                counters=_spreads(
                    {**_counters(readings, shared=shared), **_memory(listed, owners)}
                ),
                reasons=_reasons(readings),
                xids=tuple(code for _, code in track.xids),
                lost=track.lost_at is not None,
                course=series_of(readings, without=_OF_ALL_WORK if shared else frozenset()),
            )
        )
    return TelemetrySummary(tuple(devices), max(map(_rate, tracks), default=0.0))


def joined(summaries: Sequence[TelemetrySummary]) -> TelemetrySummary | None:
    """Return the union of the summaries of several engine processes; None if empty."""
    if not summaries:
        return None
    devices = list(summaries[0].devices)
    for other in summaries[1:]:
        devices = [a.joined(b) for a, b in zip(devices, other.devices, strict=True)]
    return TelemetrySummary(tuple(devices), min(summary.hz for summary in summaries))


def _counters(readings: Sequence[CounterReading], *, shared: bool) -> dict[str, list[float]]:
    return {
        name: [value for reading in readings if (value := getattr(reading, name)) is not None]
        for name in _COUNTERS
        if not (shared and name in _OF_ALL_WORK)
    }


def _memory(readings: Sequence[CounterReading], owners: ProcessOwners) -> dict[str, list[float]]:
    engine: list[float] = []
    other: list[float] = []
    for reading in readings:
        listed = (reading.processes or {}).items()
        own = [held for pid, held in listed if owners[pid].engine]
        known = [held for held in own if held is not None]
        if own and len(known) == len(own):
            engine.append(sum(known))
            if reading.memory_used is not None:
                session = sum(held or 0 for pid, held in listed if owners[pid].session)
                other.append(max(0, reading.memory_used - session))
    return {"engine_memory": engine, "other_memory": other}


def _spreads(series: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    return {
        name: Spread(len(values), sum(values) / len(values), min(values), max(values))
        for name, values in series.items()
        if values
    }


def _reasons(readings: Sequence[CounterReading]) -> dict[str, int]:
    names = {POWER_CAP: AT_POWER_LIMIT} | THROTTLE_REASONS
    counts = {
        name: sum(bool((r.reasons or 0) & bit) for r in readings) for bit, name in names.items()
    }
    return {name: count for name, count in counts.items() if count}


def _rate(track: Track) -> float:
    times = [reading.t for reading in track.readings]
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
