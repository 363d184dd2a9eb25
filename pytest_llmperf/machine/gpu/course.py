"""The course of a GPU's counters while an engine decoded, thinned for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.machine.gpu.counters import Reading

#: Samples kept of one engine process, and those that a report has of all of a test's.
MAX_OF_PROCESS = 60
MAX_SAMPLES = 240

#: The counters of a reading that a course has.
_COUNTERS = ("power_w", "temperature_c", "sm_mhz", "gpu_busy", "memory_used")


@dataclass(frozen=True)
class Course:
    """Samples of one GPU's counters in order; those of several engine processes follow one another.

    Attributes:
        seconds: of each sample, since the first one of its process.
        processes: index at which the samples of each process begin.
        counters: by name, a value for each sample; None where there is none.
    """

    seconds: tuple[float, ...] = ()
    processes: tuple[int, ...] = ()
    counters: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def joined(self, other: Course) -> Course:
        """Return the samples of both."""
        begins = [*self.processes, *(len(self.seconds) + begin for begin in other.processes)]
        counters = {
            name: (*self._values(name), *other._values(name))
            for name in dict.fromkeys([*self.counters, *other.counters])
        }
        return Course((*self.seconds, *other.seconds), tuple(begins), counters)

    def thinned(self, room: int) -> Course:
        """Return every n-th sample, so that at most ``room`` are left."""
        each = -(-len(self.seconds) // room) or 1
        return Course(
            self.seconds[::each],
            tuple(dict.fromkeys(-(-begin // each) for begin in self.processes)),
            {name: values[::each] for name, values in self.counters.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, thinned, and rounded to what the counters resolve."""
        shown = self.thinned(MAX_SAMPLES)
        return {
            "seconds": [round(one, 2) for one in shown.seconds],
            "processes": list(shown.processes),
            "counters": {
                name: [None if one is None else round(one, 3) for one in values]
                for name, values in shown.counters.items()
            },
        }

    def _values(self, name: str) -> tuple[float | None, ...]:
        return self.counters.get(name) or (None,) * len(self.seconds)


def course_of(readings: Sequence[Reading], *, without: frozenset[str] = frozenset()) -> Course:
    """Return the course of one engine process's readings, ``without`` some counters."""
    if not readings:
        return Course()
    counters = {
        name: tuple(getattr(one, name) for one in readings)
        for name in _COUNTERS
        if name not in without and any(getattr(one, name) is not None for one in readings)
    }
    first = readings[0].t
    whole = Course(tuple(one.t - first for one in readings), (0,), counters)
    return whole.thinned(MAX_OF_PROCESS)
