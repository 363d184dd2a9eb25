"""A GPU's counters over time while an engine decoded, thinned for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.machine.gpu.counters import CounterReading

#: Maximum number of samples kept of one engine process, and reported for all of a test's.
MAX_OF_PROCESS = 60
MAX_SAMPLES = 240

#: The counters of a reading that a series includes.
_COUNTERS = ("power_w", "temperature_c", "sm_mhz", "gpu_busy", "memory_used")


@dataclass(frozen=True)
class CounterSeries:
    """Samples of one GPU's counters in order, one engine process after the other.

    Attributes:
        seconds: time of each sample since the first one of its process.
        processes: index at which the samples of each process begin.
        counters: by name, a value for each sample; None where there is none.
    """

    seconds: tuple[float, ...] = ()
    processes: tuple[int, ...] = ()
    counters: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def joined(self, other: CounterSeries) -> CounterSeries:
        """Return the samples of both, one after the other."""
        begins = [*self.processes, *(len(self.seconds) + begin for begin in other.processes)]
        counters = {
            name: (*self._values(name), *other._values(name))
            for name in dict.fromkeys([*self.counters, *other.counters])
        }
        return CounterSeries((*self.seconds, *other.seconds), tuple(begins), counters)

    def thinned(self, max_samples: int) -> CounterSeries:
        """Return every n-th sample, so that at most ``max_samples`` are left."""
        step = -(-len(self.seconds) // max_samples) or 1
        return CounterSeries(
            self.seconds[::step],
            tuple(dict.fromkeys(-(-begin // step) for begin in self.processes)),
            {name: values[::step] for name, values in self.counters.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, thinned, and rounded to the counters' resolution."""
        shown = self.thinned(MAX_SAMPLES)
        return {
            "seconds": [round(t, 2) for t in shown.seconds],
            "processes": list(shown.processes),
            "counters": {
                name: [None if value is None else round(value, 3) for value in values]
                for name, values in shown.counters.items()
            },
        }

    def _values(self, name: str) -> tuple[float | None, ...]:
        return self.counters.get(name) or (None,) * len(self.seconds)


def series_of(
    readings: Sequence[CounterReading], *, without: frozenset[str] = frozenset()
) -> CounterSeries:
    """Return the series of one engine process's readings, ``without`` some counters."""
    if not readings:
        return CounterSeries()
    counters = {
        name: tuple(getattr(reading, name) for reading in readings)
        for name in _COUNTERS
        if name not in without and any(getattr(reading, name) is not None for reading in readings)
    }
    first = readings[0].t
    whole = CounterSeries(tuple(reading.t - first for reading in readings), (0,), counters)
    return whole.thinned(MAX_OF_PROCESS)
