"""An engine's GPU memory, utilization, power and energy, and why a value is missing."""

from __future__ import annotations

import pytest
from stand_in_card import Card, scenario

from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.machine.gpu.devices import Gpu
from pytest_llmperf.machine.gpu.metrics import energy_per_token, memory, power, utilization
from pytest_llmperf.machine.gpu.processes import GpuProcess
from pytest_llmperf.machine.gpu.telemetry import Track
from pytest_llmperf.machine.gpu.windows import Span, spans_of
from pytest_llmperf.timeline import Timeline

GIB = 1 << 30
PROCESSES = {
    7: GpuProcess(7, "python", visible=True, engine=True, session=True),
    8: GpuProcess(8, "worker", visible=True, engine=True, session=True),
    9: GpuProcess(9, "train", visible=True),
    4000: GpuProcess(4000, None, visible=False),
}


def track(readings: list[CounterReading], before: int | None = 0, mig: str | None = None) -> Track:
    return Track(Gpu("card", mig=mig), before, readings)


def stepping(
    watts: float, step: float, seconds: float, every: float = 0.05
) -> list[CounterReading]:
    """Readings of an energy counter that steps every ``step`` seconds."""
    count = round(seconds / every)
    return [
        CounterReading(
            n * every, energy_j=watts * step * int(n * every / step + 1e-9), processes={7: GIB}
        )
        for n in range(count + 1)
    ]


def generation(seconds: float, tokens: int = 100) -> list[list[Span]]:
    return [[Span(0.0, 0.1, seconds, tokens)]]


def test_energy_and_power_come_from_the_energy_counter(card: Card) -> None:
    metrics = card.observe(scenario("healthy"), seconds=2.3, tokens=115)["metrics"]
    assert metrics["gpu_power"] == pytest.approx(310, rel=0.05)
    # 50 tokens a second.
    assert metrics["energy_per_token"] == pytest.approx(310 / 50, rel=0.06)


@pytest.mark.parametrize("step", [0.02, 0.1, 0.13])
def test_a_counter_that_steps_slowly_is_read_at_its_steps(step: float) -> None:
    readings = stepping(200.0, step, 10.0)
    assert energy_per_token([track(readings)], PROCESSES, generation(10.0)).value == pytest.approx(
        200.0 * 10.0 / 100, rel=0.02
    )


@pytest.mark.parametrize(
    ("seconds", "step", "words"),
    [
        (1.5, 0.02, "lasted 1.5 s"),
        (
            3.0,
            0.4,
            "changed 7 times, one about every 400 ms; at least 8 s and 20 changes",
        ),
    ],
)
def test_a_window_too_short_for_the_counter_has_no_energy(
    seconds: float, step: float, words: str
) -> None:
    result = energy_per_token(
        [track(stepping(200.0, step, seconds))], PROCESSES, generation(seconds)
    )
    assert result.value is None
    assert words in result.why
    assert result.why.endswith("ask for more output tokens in the test, or raise perf.iterations")


def test_energy_of_several_cards_is_summed_over_those_the_engine_is_on() -> None:
    others = [
        CounterReading(reading.t, energy_j=(reading.energy_j or 0) * 3, processes={9: GIB})
        for reading in stepping(100.0, 0.05, 5.0)
    ]
    tracks = [track(stepping(100.0, 0.05, 5.0)), track(stepping(50.0, 0.05, 5.0)), track(others)]
    assert power(tracks, PROCESSES, generation(5.0)).value == pytest.approx(150.0, rel=0.02)


def test_without_an_energy_counter_power_is_integrated_over_a_long_window() -> None:
    readings = [
        CounterReading(n / 10, power_w=100.0 if n < 60 else 300.0, processes={7: GIB})
        for n in range(121)
    ]
    assert power([track(readings)], PROCESSES, generation(12.0)).value == pytest.approx(
        200.0, rel=0.02
    )
    short = power([track(readings[:91])], PROCESSES, generation(9.0))
    assert "at least 10 s" in short.why


def test_the_power_of_a_slice_is_nobodys() -> None:
    result = power([track(stepping(100.0, 0.05, 5.0), mig="1g.10gb")], PROCESSES, generation(5.0))
    assert "partitioned (MIG)" in result.why


def test_memory_is_the_engines_and_its_childrens_peak() -> None:
    lists = [{7: GIB, 9: 9 * GIB}, {7: GIB, 8: 2 * GIB}, {7: GIB}]
    readings = [CounterReading(float(n), processes=held) for n, held in enumerate(lists)]
    assert memory([track(readings)], PROCESSES, [Span(0.0, 0.5, 2.0, 9)]).value == 3 * GIB


def test_memory_of_an_iteration_between_two_samples_is_that_before() -> None:
    readings = [
        CounterReading(0.0, processes={7: GIB}),
        CounterReading(5.0, processes={7: 4 * GIB}),
    ]
    assert memory([track(readings)], PROCESSES, [Span(1.0, 1.01, 1.02, 4)]).value == GIB


@pytest.mark.parametrize("processes", [{4000: 2 * GIB}, {7: None}, None])
def test_untold_memory_is_what_came_since_the_engine_started(
    processes: dict[int, int | None] | None,
) -> None:
    readings = [CounterReading(0.5, memory_used=6 * GIB, processes=processes)]
    result = memory([track(readings, before=4 * GIB)], PROCESSES, [Span(0.0, 0.1, 1.0, 9)])
    assert result.value == 2 * GIB
    assert "does not report the engine's memory on the card (GPU 0)" in result.remark
    unknown = memory([track(readings, before=None)], PROCESSES, [Span(0.0, 0.1, 1.0, 9)])
    assert unknown.value is None
    assert unknown.why == "the driver does not report the memory in use on the card (GPU 0)"


def test_an_engine_on_no_card_has_no_memory_there() -> None:
    readings = [CounterReading(0.5, memory_used=6 * GIB, processes={9: GIB})]
    result = memory([track(readings)], PROCESSES, [Span(0.0, 0.1, 1.0, 9)])
    assert result.why == "the engine's process used none of the GPUs that NVML reports"


def test_memory_that_the_driver_does_not_report_is_named(
    card: Card,
) -> None:
    found = card.observe(scenario("healthy"), tenant="-5368709120")
    assert found["metrics"]["gpu_memory"] == 5 * GIB
    (note,) = found["notes"]
    assert note.startswith("gpu_memory: the driver does not report the engine's memory")


def test_utilization_counts_only_while_decoding() -> None:
    readings = [
        CounterReading(n / 20, gpu_busy=0.5 if 20 <= n <= 40 else 1.0, processes={7: GIB})
        for n in range(60)
    ]
    spans = [Span(0.0, 1.0, 2.0, 50)]
    assert utilization([track(readings)], PROCESSES, spans).value == 0.5
    assert utilization([track(readings)], PROCESSES, [Span(0.0, 1.0, 1.0, 1)]).value is None
    short = utilization([track(readings)], PROCESSES, [Span(0.0, 1.001, 1.04, 3)])
    assert short.why.startswith("fewer than 2 samples were taken while decoding, which lasted")


def test_where_clocks_differ_the_last_token_came_when_the_iteration_was_over() -> None:
    timelines = [Timeline(100.0, (101.0, 102.0)), Timeline(103.0, (103.5, 104.0))]
    assert spans_of(timelines, 14.0, shared_clock=False) == [
        Span(10.0, 11.0, 12.0, 2),
        Span(13.0, 13.5, 14.0, 2),
    ]
    assert spans_of(timelines, 14.0, shared_clock=True)[0] == Span(100.0, 101.0, 102.0, 2)
