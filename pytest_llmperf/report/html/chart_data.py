"""Numbers of the charts: small, rounded to what a chart can show, and thinned to a fixed size.

One object per test, in short keys, as the page holds hundreds of them; ``page.js`` reads them.
A series is ``{"q": [low, step, count]}``, and its values are the next ``count`` bytes, each a
number of steps above ``low``: a chart of 200 pixels needs no finer ones. A session of very many
tests has coarser charts, so that its page stays below a megabyte. Slowdowns are percentages. The
objects and the bytes of all tests travel as deflated texts in base64, which no name can break out
of, and which are inflated when the first chart is drawn.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_llmperf.gate.words import side_word
from pytest_llmperf.report.html.values import GPU_COUNTERS, Scale, scale
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from pytest_llmperf.report.reported import ReportedSession, ShownTest
    from pytest_llmperf.report.reported_checks import ShownMetric
    from pytest_llmperf.report.reported_details import (
        ReportedCourse,
        ReportedGpuTelemetry,
        ReportedProgress,
        ReportedSpread,
    )
    from pytest_llmperf.session.report_history import PastLevels
    from pytest_llmperf.session.shown_timelines import ShownTimeline

#: A session of more tests has coarse charts.
_MANY_TESTS = 60
#: Seconds between two processes in a GPU's charts.
_PAUSE = 0.2
#: The byte where a series has no value.
_NONE = 255
#: What the charts call a change, unless a metric has other words.
_SIDES = ["slower", "faster"]
#: A value this many times farther from the median than nine in ten are stands in the last bar.
_FAR = 4.0


class _Detail(NamedTuple):
    """How fine charts are.

    Attributes:
        bars: of a distribution.
        looks, gaps, gpu: points of a chart over pairs' looks, over tokens, and of a GPU's counter.
        steps: between the lowest and the highest value of a series, at most 254.
    """

    bars: int
    looks: int
    gaps: int
    gpu: int
    steps: int


_FINE, _COARSE = _Detail(18, 12, 300, 240, 250), _Detail(14, 8, 32, 24, 100)


def packed(report: ReportedSession, *, samples: bool) -> str:
    """Return the charts' numbers of all tests as one text of safe characters."""
    series = bytearray()
    packer = _Packer(report, series, samples=samples)
    data = {
        "sessions": [
            [printable(one.recorded), printable((one.commit or "")[:10])] for one in report.past
        ],
        "tests": [packer.test(test) for test in report.tests],
    }
    objects = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    texts = (base64.b64encode(zlib.compress(part, 9)).decode() for part in (objects, series))
    return ".".join(texts)


class _Packer:
    """Turns tests into objects, and appends the values of their series to ``series``."""

    def __init__(self, report: ReportedSession, series: bytearray, *, samples: bool) -> None:
        self._past = len(report.past)
        self._detail = _FINE if len(report.tests) <= _MANY_TESTS else _COARSE
        self._series_bytes = series
        self._samples = samples

    def test(self, test: ShownTest) -> dict[str, Any]:
        """Return the object of one test."""
        gpus = test.telemetry.gpus if test.telemetry else ()
        return {
            "base": printable(test.against or "base"),
            "m": [self._metric(one) for one in test.metrics],
            "t": [self._timeline(one) for one in test.timelines],
            "g": [self._gpu(gpu) for gpu in gpus if len(gpu.course.seconds) > 1],
        }

    def _metric(self, row: ShownMetric) -> dict[str, Any]:
        size = scale(row, row.value)
        found: dict[str, Any] = {"n": printable(row.label), "u": printable(size.text)}
        if (sides := [side_word(row.metric, change) for change in (1, -1)]) != _SIDES:
            found["w"] = sides
        if row.limit is not None:
            found["l"] = _digits(row.limit / size.factor)
        if row.value is not None:
            found["x"] = _digits(row.value / size.factor)
        if row.progress is not None and row.progress.differences:
            found["p"] = self._progress(row.progress, row.tolerance)
        own, base = _flat(row.samples, size), _flat(row.base_samples, size)
        if len(own) > 1 and (bars := self._distribution(own, base)):
            found["h"] = bars
        if self._samples and own:
            found["s"] = [_rows(row.samples, size), _rows(row.base_samples, size)]
        if row.history is not None and row.history.values:
            found["y"] = self._history(row.history, size)
        return found

    def _progress(self, progress: ReportedProgress, tolerance: float) -> dict[str, Any]:
        looks = _thinned(progress.looks, self._detail.looks)
        differences = [_percent(one) for one in progress.differences]
        # The effects after each look, then the lower ends of their intervals, then the upper ones.
        ends = [_percent(look[end]) for end in (1, 2, 3) for look in looks]
        # The first intervals may be hundreds of times wider than the last, and would leave the
        # others no steps; the chart ends there, too.
        shown = [0.0, *(one for one in differences if one is not None)]
        shown += [one for one in ends[len(looks) - 1 :: len(looks) or 1] if one is not None]
        low, high = min(shown), max(shown)
        room = (high - low) / 2
        return {
            "a": progress.against,
            "t": _percent(tolerance),
            "d": self._series(differences),
            "n": [count for count, *_ in looks],
            "k": self._series(_clipped(ends, low - room, high + room)),
        }

    def _distribution(self, own: Sequence[float], base: Sequence[float]) -> dict[str, Any] | None:
        """Return how many iterations lie in each of some equal parts of the range.

        Values far outside are counted in the first or last part: one stall would else leave the
        rest in a single bar.
        """
        everything = sorted((*own, *base))
        middle = median(everything)
        near = [everything[round(share * (len(everything) - 1))] for share in (0.05, 0.95)]
        low = max(everything[0], middle - _FAR * (middle - near[0]))
        high = min(everything[-1], middle + _FAR * (near[1] - middle))
        if not high > low:
            return None
        found: dict[str, Any] = {"r": [_digits(low), _digits(high)]}
        for key, values in (("c", own), ("b", base)):
            if values:
                found[key] = self._whole(_counts(values, low, high, self._detail.bars))
        if everything[0] < low or everything[-1] > high:
            found["o"] = 1
        return found

    def _history(self, levels: PastLevels, size: Scale) -> dict[str, Any]:
        known = [
            (session, value)
            for session, value in zip(levels.sessions, levels.values, strict=True)
            if session < self._past
        ]
        sessions = [session for session, _ in known]
        return {
            # Most often every session of the report.
            "i": len(sessions) if sessions == [*range(len(sessions))] else sessions,
            "v": self._series([value / size.factor for _, value in known]),
            "c": [
                [one.index, _percent(one.slowdown)]
                for one in levels.changes
                if one.index < len(known)
            ],
        }

    def _timeline(self, one: ShownTimeline) -> dict[str, Any]:
        each = -(-len(one.gaps) // self._detail.gaps) or 1
        gaps = [max(one.gaps[i : i + each]) for i in range(0, len(one.gaps), each)]
        return {
            "k": one.picked,
            "b": int(one.side == "base"),
            "e": each * one.gaps_per_value,
            "g": self._series([gap * 1e3 for gap in gaps]),
            "s": sorted({stall // each for stall in one.stalls if stall // each < len(gaps)}),
            "r": [begin // each for begin in one.requests],
            "f": [round(first * 1e3, 1) for first in one.first_tokens],
            "z": _digits(one.seconds, 4),
        }

    def _gpu(self, gpu: ReportedGpuTelemetry) -> dict[str, Any]:
        course = gpu.course
        times = _end_to_end(course)
        each = -(-len(times) // self._detail.gpu)
        begins = dict.fromkeys(-(-begin // each) for begin in course.processes)
        return {
            "n": "GPU" if gpu.gpu is None else f"GPU {gpu.gpu}",
            "s": self._series(times[::each]),
            # Where most processes have one point or none, gaps between them would leave no line.
            "p": list(begins) if 2 * len(begins) <= len(times[::each]) else [0],
            "c": [
                self._counter(name, values[::each], gpu.counters.get(name))
                for name, values in course.counters.items()
                if any(one is not None for one in values[::each])
            ],
        }

    def _counter(
        self, name: str, values: Sequence[float | None], spread: ReportedSpread | None
    ) -> dict[str, Any]:
        label, unit, factor = GPU_COUNTERS.get(name, (printable(name), "", 1.0))
        shown = [None if one is None else one / factor for one in values]
        known = [one for one in shown if one is not None]
        ends = (min(known), max(known))
        if spread is not None:
            # Of all samples, not only of those that are drawn.
            ends = (spread.min / factor, spread.max / factor)
        return {
            "n": label,
            "u": unit,
            "r": [_digits(one, 4) for one in ends],
            "v": self._series(shown),
        }

    def _series(self, values: Sequence[float | None]) -> dict[str, Any]:
        known = [one for one in values if one is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        step = (high - low) / self._detail.steps or 1.0
        self._series_bytes.extend(
            _NONE if one is None else round((one - low) / step) for one in values
        )
        return {"q": [_digits(low), _digits(step, 3), len(values)]}

    def _whole(self, counts: Sequence[int]) -> dict[str, Any]:
        """Return a series of whole numbers from 0 on, exact as far as a byte goes."""
        step = -(-max(counts) // _FINE.steps) or 1
        self._series_bytes.extend(count // step for count in counts)
        return {"q": [0, step, len(counts)]}


def _end_to_end(course: ReportedCourse) -> list[float]:
    """Return the times of samples with the processes one after the other."""
    begins, times, offset = set(course.processes), list[float](), 0.0
    for index, seconds in enumerate(course.seconds):
        if times and index in begins:
            offset = times[-1] + _PAUSE
        times.append(offset + seconds)
    return times


def _percent(slowdown: float | None) -> float | None:
    """A slowdown as a percentage; null beyond what a chart can show."""
    return None if slowdown is None or abs(slowdown) > 1e3 else _digits(slowdown * 100, 4)


def _clipped(values: Sequence[float | None], low: float, high: float) -> list[float | None]:
    return [None if one is None else min(max(one, low), high) for one in values]


def _counts(values: Iterable[float], low: float, high: float, bars: int) -> list[int]:
    counts = [0] * bars
    for value in values:
        place = int((value - low) / (high - low) * bars)
        counts[min(max(place, 0), bars - 1)] += 1
    return counts


def _flat(samples: Sequence[Sequence[float]], size: Scale) -> list[float]:
    return [value / size.factor for row in samples for value in row]


def _rows(samples: Sequence[Sequence[float]], size: Scale) -> list[list[float]]:
    return [[_digits(value / size.factor) for value in row] for row in samples]


def _thinned(looks: Sequence[tuple[Any, ...]], room: int) -> list[tuple[Any, ...]]:
    """Keep the first and the last look, and evenly many between."""
    if len(looks) <= room:
        return list(looks)
    last = len(looks) - 1
    return [looks[round(number * last / (room - 1))] for number in range(room)]


def _digits(value: float, digits: int = 5) -> float:
    """Round to so many significant digits; whole numbers lose their point."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
