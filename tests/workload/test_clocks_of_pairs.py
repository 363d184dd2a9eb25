"""Pairs whose two sides ran at different clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.machine.gpu.devices import Gpu
from pytest_llmperf.machine.gpu.fitness import AT_POWER_LIMIT
from pytest_llmperf.machine.gpu.summary import DeviceSummary, Spread, TelemetrySummary
from pytest_llmperf.measure.clocks import void_if_clocks_differ
from pytest_llmperf.measure.process_sample import BASE, CANDIDATE, ProcessSample
from pytest_llmperf.measure.rounds import SPARE_ROUNDS

ECHO = """
    def answer(prompt):
        yield from "abcd"
"""


#: The same engine on either side.
ALIKE = {side: EngineInfo("llama_cpp", "1", "m", n_threads=4) for side in (CANDIDATE, BASE)}


def half(side: str, cpu_mhz: float | None = None, **counters: float) -> ProcessSample:
    spreads = {name: Spread(9, mhz, mhz, mhz) for name, mhz in counters.items()}
    device = DeviceSummary(Gpu("RTX 4090"), used=True, samples=9, counters=spreads)
    telemetry = TelemetrySummary((device,)) if counters else None
    row = ({"first_token": 1.0},)
    return ProcessSample(0, row, side=side, pair=0, cpu_mhz=cpu_mhz, telemetry=telemetry)


def test_a_pair_whose_sides_had_other_clocks_is_void_and_says_which() -> None:
    candidate, base = void_if_clocks_differ(
        [half(BASE, 3900.0), half(CANDIDATE, 3000.0)], ALIKE, {}
    )
    assert candidate.void == base.void
    assert str(candidate.void).startswith(
        "the CPU ran at 3000 MHz for the candidate and at 3900 MHz for the base side; lock the "
    )
    assert [finding.name for finding in base.findings] == ["clocks_differ"]


def test_the_clocks_of_a_gpu_count_too() -> None:
    sides = [
        half(CANDIDATE, sm_mhz=2500, memory_mhz=10501),
        half(BASE, sm_mhz=2500, memory_mhz=5001),
    ]
    for sample in void_if_clocks_differ(sides, ALIKE, {}):
        assert "the memory clock of the RTX 4090 (GPU 0) ran at 10501 MHz for" in str(sample.void)


@pytest.mark.parametrize(
    "sides",
    [
        [half(CANDIDATE, 3700.0), half(BASE, 3900.0)],
        [half(CANDIDATE, None), half(BASE, 3900.0)],
        [half(CANDIDATE, sm_mhz=2500), half(BASE, memory_mhz=5001)],
        [half(CANDIDATE, 3900.0)],
    ],
)
def test_clocks_that_are_alike_or_unknown_void_nothing(sides: list[ProcessSample]) -> None:
    assert void_if_clocks_differ(sides, ALIKE, {}) == sides


def test_a_lower_severity_lets_the_pair_count() -> None:
    halves = void_if_clocks_differ(
        [half(CANDIDATE, 3000.0), half(BASE, 3900.0)], ALIKE, {"clocks_differ": "note"}
    )
    assert [(sample.void, sample.findings[0].severity) for sample in halves] == [(None, "note")] * 2


def test_where_the_sides_compute_on_other_threads_the_clock_is_no_accident() -> None:
    fewer = {**ALIKE, CANDIDATE: replace(ALIKE[CANDIDATE], n_threads=1)}
    for sample in void_if_clocks_differ([half(CANDIDATE, 4900.0), half(BASE, 3900.0)], fewer, {}):
        assert (sample.void, sample.findings[0].severity) == (None, "warn")


def test_a_gpu_at_its_power_limit_has_the_clock_that_its_work_leaves() -> None:
    slow = half(CANDIDATE, sm_mhz=1500)
    assert slow.telemetry is not None
    (device,) = slow.telemetry.devices
    limited = replace(device, reasons={AT_POWER_LIMIT: 9})
    sides = [replace(slow, telemetry=TelemetrySummary((limited,))), half(BASE, sm_mhz=2500)]
    assert void_if_clocks_differ(sides, ALIKE, {}) == sides
    sides[0] = slow
    assert [bool(sample.void) for sample in void_if_clocks_differ(sides, ALIKE, {})] == [True, True]


def test_such_pairs_are_measured_again_and_a_few_cost_no_verdict(stage: Any) -> None:
    stage.clocks = [3900.0, 3000.0]
    samples = stage.run({"one": stage.workload("x")}, base=ECHO, processes=2).tests["one"]
    assert (samples.pairs, samples.void_pairs, samples.given_up) == (2, 1, False)
    stage.clocks = [3900.0, 3000.0, 3000.0, 3900.0] * 99
    samples = stage.run({"one": stage.workload("x")}, base=ECHO, processes=2).tests["one"]
    assert (samples.pairs, samples.void_pairs, samples.given_up) == (0, SPARE_ROUNDS + 1, True)
