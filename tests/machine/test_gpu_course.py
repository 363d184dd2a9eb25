"""A GPU's counters over time, as a report shows them."""

from __future__ import annotations

from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.machine.gpu.course import MAX_SAMPLES, CounterSeries, series_of


def readings(count: int, start: float = 100.0, **counters: float) -> list[CounterReading]:
    return [CounterReading(start + 0.05 * n, **counters) for n in range(count)]  # type: ignore[arg-type]


def test_times_begin_with_the_process_and_unread_counters_are_left_out() -> None:
    course = series_of(readings(3, power_w=300.0), without=frozenset({"gpu_busy"}))
    assert [round(second, 2) for second in course.seconds] == [0.0, 0.05, 0.1]
    assert course.counters == {"power_w": (300.0,) * 3}
    assert series_of([]) == CounterSeries()
    assert series_of(readings(3, power_w=300.0), without=frozenset({"power_w"})).counters == {}


def test_processes_are_joined_end_to_end() -> None:
    first = series_of(readings(2, power_w=300.0))
    second = series_of(readings(3, 200.0, power_w=310.0, sm_mhz=2500))
    course = first.joined(second)
    assert course.processes == (0, 2)
    assert course.counters["power_w"] == (300.0, 300.0, 310.0, 310.0, 310.0)
    assert course.counters["sm_mhz"] == (None, None, 2500, 2500, 2500)


def test_a_long_course_is_thinned_evenly() -> None:
    course = CounterSeries()
    for number in range(20):
        course = course.joined(series_of(readings(500, 100.0 * number, power_w=float(number))))
    data = course.to_json()
    assert MAX_SAMPLES / 2 <= len(data["seconds"]) <= MAX_SAMPLES
    power = data["counters"]["power_w"]
    assert [power[begin] for begin in data["processes"]] == [float(n) for n in range(20)]
    counts = [power.count(float(number)) for number in range(20)]
    assert max(counts) - min(counts) <= 1
