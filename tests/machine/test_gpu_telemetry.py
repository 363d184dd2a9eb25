"""Samples of a card while an engine works, and notes on counters that can't be sampled."""

from __future__ import annotations

from typing import Any

import pytest
from stand_in_card import Card, scenario

from pytest_llmperf.machine.gpu.counters import CounterReading
from pytest_llmperf.machine.gpu.devices import Gpu
from pytest_llmperf.machine.gpu.processes import GpuProcess
from pytest_llmperf.machine.gpu.summary import summarise
from pytest_llmperf.machine.gpu.telemetry import Track
from pytest_llmperf.machine.gpu.windows import Span

GIB = 1 << 30


def means(device: dict[str, Any]) -> dict[str, float]:
    return {name: spread["mean"] for name, spread in device["counters"].items()}


def test_every_counter_of_a_healthy_card_is_sampled(card: Card) -> None:
    found = card.observe(scenario("healthy"), seconds=0.8)
    (device,) = found["devices"]
    assert found["notes"] == []
    assert means(device) == pytest.approx(
        {
            "gpu_busy": 0.97,
            "memory_busy": 0.81,
            "memory_used": 5 * GIB + (310 << 20),
            "memory_free": (24564 << 20) - 5 * GIB - (310 << 20),
            "engine_memory": 5 * GIB,
            "other_memory": 310 << 20,
            "power_w": 310.0,
            "temperature_c": 61,
            "sm_mhz": 2640,
            "memory_mhz": 10251,
            "pcie_generation": 4,
            "pcie_width": 16,
            "ecc_corrected": 0,
            "ecc_uncorrected": 0,
        }
    )


def test_what_does_not_change_is_read_once(card: Card) -> None:
    (device,) = card.observe(scenario("healthy"), seconds=0.1)["devices"]
    assert device["facts"] == {
        "index": 0,
        "name": "NVIDIA GeForce RTX 4090",
        "uuid": "GPU-0000",
        "mig": None,
        "mig_mode": None,
        "memory_bytes": 24564 << 20,
        "memory_bus_bits": 384,
        "sm_clock_max_mhz": 3105,
        "memory_clock_max_mhz": 10501,
        "pcie_generation_max": 4,
        "pcie_width_max": 16,
        "power_limit_w": 450.0,
        "power_limit_default_w": 450.0,
        "power_limit_enforced_w": 450.0,
        "slowdown_c": 90,
        "persistence": True,
        "driver": "550.54.15",
        "cuda": "12.4",
    }


def test_only_the_devices_the_engine_may_use_are_sampled(card: Card) -> None:
    found = card.observe(scenario("eight_devices"), seconds=0.1, CUDA_VISIBLE_DEVICES="5,GPU-2200")
    assert [device["facts"]["index"] for device in found["devices"]] == [5, 2]


def test_the_device_the_engine_is_on_is_distinguished_from_the_others(card: Card) -> None:
    found = card.observe(scenario("eight_devices"))
    assert [device["used"] for device in found["devices"]] == [True] + [False] * 7


def test_the_engine_that_was_listed_before_its_first_prompt_only_counts() -> None:
    readings = [
        CounterReading(0.0, gpu_busy=0.1, memory_used=9 * GIB, processes={7: GIB}),
        CounterReading(1.0, gpu_busy=0.1, memory_used=6 * GIB, processes={7: 4 * GIB}),
        CounterReading(3.0, gpu_busy=0.9, memory_used=6 * GIB),
        CounterReading(5.0, gpu_busy=0.1, memory_used=9 * GIB, processes={7: 8 * GIB}),
    ]
    who = {7: GpuProcess(7, "python", visible=True, engine=True, session=True)}
    tracks = [Track(Gpu("card"), 0, readings)]
    (device,) = summarise(tracks, who, [Span(2.0, 2.5, 4.0, 100)]).devices
    counters = {name: (s.samples, s.low, s.high) for name, s in device.counters.items()}
    assert counters == {
        "gpu_busy": (1, 0.9, 0.9),
        "memory_used": (1, 6 * GIB, 6 * GIB),
        "engine_memory": (1, 4 * GIB, 4 * GIB),
        "other_memory": (1, 2 * GIB, 2 * GIB),
    }


def test_of_a_slice_what_belongs_to_the_card_is_the_cards(card: Card) -> None:
    found = card.observe(scenario("mig"), CUDA_VISIBLE_DEVICES="MIG-0002")
    (device,) = found["devices"]
    assert (device["facts"]["mig"], device["facts"]["mig_mode"]) == ("2c.3g.40gb", True)
    assert means(device)["temperature_c"] == 52
    assert found["notes"] == [
        "the NVIDIA H100 80GB HBM3 (a MIG slice) does not report: utilization"
    ]
    assert found["undefined"]["energy_per_token"] == (
        "the NVIDIA H100 80GB HBM3 is partitioned (MIG), and its power reading covers all slices"
    )


def test_counters_a_card_lacks_are_said_once_and_the_others_read(card: Card) -> None:
    found = card.observe(scenario("unsupported"))
    assert found["notes"] == [
        "the NVIDIA GeForce MX150 does not report: the energy counter, utilization, clocks, power, "
        "the PCIe link"
    ]
    assert means(found["devices"][0])["temperature_c"] == 55
    assert found["undefined"]["gpu_utilization"] == (
        "the driver does not report how busy the NVIDIA GeForce MX150 (GPU 0) is"
    )
    assert found["undefined"]["gpu_power"] == (
        "the driver reports neither energy nor power of the NVIDIA GeForce MX150 (GPU 0)"
    )


def test_what_this_user_may_not_see_is_said_once(card: Card) -> None:
    found = card.observe(scenario("healthy") + "forbidden 0\n")
    assert found["notes"][0] == (
        "the driver does not let this user see these counters of the NVIDIA GeForce RTX 4090: "
        "processes"
    )


def test_a_card_lost_meanwhile_is_said_once_and_what_it_reported_stays(card: Card) -> None:
    found = card.observe(scenario("healthy"), during="more('lost 0')", seconds=1.0)
    assert found["notes"] == [
        "the NVIDIA GeForce RTX 4090 (GPU 0) stopped responding (it has fallen off the bus, or "
        "its driver was reset); no counters from then on"
    ]
    (device,) = found["devices"]
    assert device["lost"]
    assert means(device)["gpu_busy"] == pytest.approx(0.97)
    assert found["threads"] == []


def test_one_lost_card_of_eight_does_not_end_the_others(card: Card) -> None:
    found = card.observe(scenario("eight_devices"), during="more('lost 3')", seconds=1.0)
    assert [device["lost"] for device in found["devices"]] == [n == 3 for n in range(8)]
    samples = [device["samples"] for device in found["devices"]]
    assert samples[3] < min(samples[:3] + samples[4:])


@pytest.mark.parametrize("name", ["lost", "driver_mismatch"])
def test_without_a_card_that_answers_nothing_is_sampled(card: Card, name: str) -> None:
    assert card.observe(scenario(name)) is None


def test_the_thread_ends_with_the_watch_and_what_follows_starts_anew(card: Card) -> None:
    card.set(scenario("healthy"))
    found = card.run("""
telemetry = Telemetry.open()
first = telemetry.watch([os.getpid()])
second = telemetry.watch([os.getpid()])
time.sleep(0.2)
seen = [first.running, second.running]
telemetry.close()
telemetry.close()
try:
    telemetry.watch([os.getpid()])
except RuntimeError as error:
    seen.append(str(error))
answer([*seen, second.running, [t.name for t in threading.enumerate()]])
""")
    assert found == [False, True, "this session with NVML is over", False, ["MainThread"]]


def test_a_process_that_never_ends_the_watch_ends_all_the_same(card: Card) -> None:
    card.set(scenario("healthy"))
    assert card.run("Telemetry.open().watch([os.getpid()]); time.sleep(0.2); answer('over')") == (
        "over"
    )


def test_an_error_nobody_expected_ends_the_sampling_and_not_the_session(card: Card) -> None:
    card.set(scenario("healthy"))
    found = card.run("""
import pynvml
telemetry, library = Telemetry.open(), pynvml.nvmlLib
del pynvml.nvmlLib  # a binding of another make
sampler = telemetry.watch([os.getpid()])
sampler.stop()
pynvml.nvmlLib = library
telemetry.close()
answer([sampler.running, telemetry.notes])
""")
    running, (note,) = found
    assert running is False
    assert note.startswith("the GPUs were no longer watched from here on: AttributeError: ")


def test_a_sampler_that_costs_too_much_samples_less_often(card: Card) -> None:
    card.set(scenario("healthy"))
    rates = card.run("""
from pytest_llmperf.machine.gpu import telemetry as module
from pytest_llmperf.machine.gpu.summary import summarise
session, rates = Telemetry.open(), []
for most in (1.0, 0.0005):
    module.MAX_CPU = most
    sampler = session.watch([os.getpid()], hz=20)
    time.sleep(1.0)
    rates.append(summarise(sampler.tracks(), sampler.owners, []).devices[0].samples)
answer(rates)
""")
    assert rates[1] < rates[0]
