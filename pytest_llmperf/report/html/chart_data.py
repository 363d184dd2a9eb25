"""Numbers of the charts: rounded to what a chart can show, and thinned to a fixed size.

Each test is an object with short keys, as a page may hold hundreds; ``page.js`` reads them.
A series is ``{"q": [low, step, count]}``, and its values are the next ``count`` bytes, each a
number of steps above ``low``: a chart of 200 pixels needs no finer ones. A session of many
tests gets coarser charts, so that its page stays below a megabyte. Slowdowns are percentages. The
objects and the bytes of all tests are deflated and encoded in base64, so that no test's name can
break out of the text; they are inflated when the first chart is drawn.
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

#: Sessions with more tests than this get coarse charts.
_MANY_TESTS = 60
#: Gap between two processes in a GPU's charts, seconds.
_PAUSE = 0.2
#: Byte that stands for a missing value of a series.
_NONE = 255
#: Default words of the charts for a change to the worse and to the better.
_SIDES = ["slower", "faster"]
#: Bars end this many times as far from the median as the 5th and 95th percentiles are.
_FAR = 4.0


class _Detail(NamedTuple):
    """Level of detail of the charts.

    Attributes:
        bars: bars of a distribution.
        looks, gaps, gpu: points of a chart of progress, of tokens, and of a GPU counter.
        steps: steps between the lowest and the highest value of a series, at most 254.
    """

    bars: int
    looks: int
    gaps: int
    gpu: int
    steps: int


_FINE, _COARSE = _Detail(18, 12, 300, 240, 250), _Detail(14, 8, 32, 24, 100)


def chart_text(report: ReportedSession, *, samples: bool) -> str:
    """Return the chart data of all tests as one text of safe characters."""
    series = bytearray()
    chart_data = _ChartData(report, series, samples=samples)
    data = {
        "sessions": [
            [printable(past.recorded), printable((past.commit or "")[:10])] for past in report.past
        ],
        "tests": [chart_data.test(test) for test in report.tests],
    }
    objects = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    texts = (base64.b64encode(zlib.compress(part, 9)).decode() for part in (objects, series))
    return ".".join(texts)


class _ChartData:
    """Turns tests into chart objects, and appends the values of their series to ``series``."""

    def __init__(self, report: ReportedSession, series: bytearray, *, samples: bool) -> None:
        self._past = len(report.past)
        self._detail = _FINE if len(report.tests) <= _MANY_TESTS else _COARSE
        self._series_bytes = series
        self._samples = samples

    def test(self, test: ShownTest) -> dict[str, Any]:
        """Return the chart object of one test."""
        gpus = test.telemetry.gpus if test.telemetry else ()
        return {
            "base": printable(test.against or "base"),
            "m": [self._metric(metric) for metric in test.metrics],
            "t": [self._timeline(timeline) for timeline in test.timelines],
            "g": [self._gpu(gpu) for gpu in gpus if len(gpu.course.seconds) > 1],
        }

    def _metric(self, row: ShownMetric) -> dict[str, Any]:
        size = scale(row, row.value)
        chart: dict[str, Any] = {"n": printable(row.label), "u": printable(size.text)}
        if (sides := [side_word(row.metric, change) for change in (1, -1)]) != _SIDES:
            chart["w"] = sides
        if row.limit is not None:
            chart["l"] = _digits(row.limit / size.factor)
        if row.value is not None:
            chart["x"] = _digits(row.value / size.factor)
        if row.progress is not None and row.progress.differences:
            chart["p"] = self._progress(row.progress, row.tolerance)
        own, base = _flat(row.samples, size), _flat(row.base_samples, size)
        if len(own) > 1 and (bars := self._distribution(own, base)):
            chart["h"] = bars
        if self._samples and own:
            chart["s"] = [_rows(row.samples, size), _rows(row.base_samples, size)]
        if row.history is not None and row.history.values:
            chart["y"] = self._history(row.history, size)
        return chart

    def _progress(self, progress: ReportedProgress, tolerance: float) -> dict[str, Any]:
        looks = _thinned(progress.looks, self._detail.looks)
        differences = [_percent(difference) for difference in progress.differences]
        # The effects of all looks, then the lower ends of their intervals, then the upper ends.
        ends = [_percent(look[end]) for end in (1, 2, 3) for look in looks]
        # The first intervals may be hundreds of times wider than the last and would use up all
        # steps, so they are clipped where the chart ends.
        shown = [0.0, *(value for value in differences if value is not None)]
        shown += [end for end in ends[len(looks) - 1 :: len(looks) or 1] if end is not None]
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
        """Return the histogram of both sides' iterations; None if its range is empty.

        Outliers are counted in the first or last bar: otherwise one stall would squeeze all
        others into a single bar.
        """
        everything = sorted((*own, *base))
        middle = median(everything)
        near = [everything[round(share * (len(everything) - 1))] for share in (0.05, 0.95)]
        low = max(everything[0], middle - _FAR * (middle - near[0]))
        high = min(everything[-1], middle + _FAR * (near[1] - middle))
        if not high > low:
            return None
        chart: dict[str, Any] = {"r": [_digits(low), _digits(high)]}
        for key, values in (("c", own), ("b", base)):
            if values:
                chart[key] = self._whole(_counts(values, low, high, self._detail.bars))
        if everything[0] < low or everything[-1] > high:
            chart["o"] = 1
        return chart

    def _history(self, levels: PastLevels, size: Scale) -> dict[str, Any]:
        known = [
            (session, value)
            for session, value in zip(levels.sessions, levels.values, strict=True)
            if session < self._past
        ]
        sessions = [session for session, _ in known]
        return {
            # Usually every session of the report.
            "i": len(sessions) if sessions == [*range(len(sessions))] else sessions,
            "v": self._series([value / size.factor for _, value in known]),
            "c": [
                [change.index, _percent(change.slowdown)]
                for change in levels.changes
                if change.index < len(known)
            ],
        }

    def _timeline(self, timeline: ShownTimeline) -> dict[str, Any]:
        chunk = -(-len(timeline.gaps) // self._detail.gaps) or 1
        gaps = [max(timeline.gaps[i : i + chunk]) for i in range(0, len(timeline.gaps), chunk)]
        return {
            "k": timeline.picked,
            "b": int(timeline.side == "base"),
            "e": chunk * timeline.gaps_per_value,
            "g": self._series([gap * 1e3 for gap in gaps]),
            "s": sorted(
                {stall // chunk for stall in timeline.stalls if stall // chunk < len(gaps)}
            ),
            "r": [begin // chunk for begin in timeline.requests],
            "f": [round(first * 1e3, 1) for first in timeline.first_tokens],
            "z": _digits(timeline.seconds, 4),
        }

    def _gpu(self, gpu: ReportedGpuTelemetry) -> dict[str, Any]:
        course = gpu.course
        times = _joined_times(course)
        chunk = -(-len(times) // self._detail.gpu)
        begins = dict.fromkeys(-(-begin // chunk) for begin in course.processes)
        return {
            "n": "GPU" if gpu.gpu is None else f"GPU {gpu.gpu}",
            "s": self._series(times[::chunk]),
            # If most processes have at most one point, gaps between them would leave no line.
            "p": list(begins) if 2 * len(begins) <= len(times[::chunk]) else [0],
            "c": [
                self._counter(name, values[::chunk], gpu.counters.get(name))
                for name, values in course.counters.items()
                if any(value is not None for value in values[::chunk])
            ],
        }

    def _counter(
        self, name: str, values: Sequence[float | None], spread: ReportedSpread | None
    ) -> dict[str, Any]:
        label, unit, factor = GPU_COUNTERS.get(name, (printable(name), "", 1.0))
        shown = [None if value is None else value / factor for value in values]
        known = [value for value in shown if value is not None]
        ends = (min(known), max(known))
        if spread is not None:
            # The extremes of all samples, not only of those drawn.
            ends = (spread.min / factor, spread.max / factor)
        return {
            "n": label,
            "u": unit,
            "r": [_digits(end, 4) for end in ends],
            "v": self._series(shown),
        }

    def _series(self, values: Sequence[float | None]) -> dict[str, Any]:
        known = [value for value in values if value is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        step = (high - low) / self._detail.steps or 1.0
        self._series_bytes.extend(
            _NONE if value is None else round((value - low) / step) for value in values
        )
        return {"q": [_digits(low), _digits(step, 3), len(values)]}

    def _whole(self, counts: Sequence[int]) -> dict[str, Any]:
        """Return a series of whole numbers from 0, exact if a byte can hold them."""
        step = -(-max(counts) // _FINE.steps) or 1
        self._series_bytes.extend(count // step for count in counts)
        return {"q": [0, step, len(counts)]}


def _joined_times(course: ReportedCourse) -> list[float]:
    """Return the samples' times with the processes placed one after the other."""
    begins, times, offset = set(course.processes), list[float](), 0.0
    for index, seconds in enumerate(course.seconds):
        if times and index in begins:
            offset = times[-1] + _PAUSE
        times.append(offset + seconds)
    return times


def _percent(slowdown: float | None) -> float | None:
    """Return a slowdown as a percentage; None if a chart can't show it."""
    return None if slowdown is None or abs(slowdown) > 1e3 else _digits(slowdown * 100, 4)


def _clipped(values: Sequence[float | None], low: float, high: float) -> list[float | None]:
    return [None if value is None else min(max(value, low), high) for value in values]


def _counts(values: Iterable[float], low: float, high: float, bars: int) -> list[int]:
    counts = [0] * bars
    for value in values:
        index = int((value - low) / (high - low) * bars)
        counts[min(max(index, 0), bars - 1)] += 1
    return counts


def _flat(samples: Sequence[Sequence[float]], size: Scale) -> list[float]:
    return [value / size.factor for row in samples for value in row]


def _rows(samples: Sequence[Sequence[float]], size: Scale) -> list[list[float]]:
    return [[_digits(value / size.factor) for value in row] for row in samples]


def _thinned(looks: Sequence[tuple[Any, ...]], room: int) -> list[tuple[Any, ...]]:
    """Keep the first and the last look, and evenly spaced ones between."""
    if len(looks) <= room:
        return list(looks)
    last = len(looks) - 1
    return [looks[round(number * last / (room - 1))] for number in range(room)]


def _digits(value: float, digits: int = 5) -> float:
    """Round to a number of significant digits; turn whole numbers into integers."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
