"""Whether the GPUs that one engine uses hold a second one beside it."""

from __future__ import annotations

from typing import Any

import pytest
from stand_in_card import Card, scenario

from pytest_llmperf.engine.load_report import DeviceLoad, GpuStatus, GpuUtilization
from pytest_llmperf.machine.gpu.room import cards_have_room_beside

GIB, MIB = 1 << 30, 1 << 20
#: The engine's process is the one that asks; ``WIRE`` is what llama.cpp reported.
ASK = """
from pytest_llmperf.engine.load_report import GpuUtilization
from pytest_llmperf.machine.gpu.room import cards_have_room_beside
load = WIRE and GpuUtilization.from_wire(WIRE)
telemetry = Telemetry.open()
for line in TENANTS:
    more(line.replace("PID", str(os.getpid())))
answer(cards_have_room_beside(telemetry, [os.getpid()], load))
"""


def load(*devices: DeviceLoad, layers: int = 31) -> GpuUtilization:
    return GpuUtilization(GpuStatus.FULL, layers, 31, -1, devices)


def fits(card: Card, text: str, *tenants: str, report: GpuUtilization | None = None) -> Any:
    card.set(text)
    wire = None if report is None else report.to_wire()
    return card.run(f"WIRE, TENANTS = {wire!r}, {tenants!r}\n{ASK}")


@pytest.mark.parametrize(
    ("tenants", "room"),
    [
        # Others use 310 of 24564 MiB: with 1.25 times as much and 512 MiB free, 10551 MiB fit.
        ([f"tenant 0 PID {10500 * MIB} python"], True),
        ([f"tenant 0 PID {10600 * MIB} python"], False),
        # A driver that does not report memory by process: the growth since the start counts.
        ([f"tenant 0 PID -{10500 * MIB} python"], True),
        ([f"tenant 0 PID -{10600 * MIB} python"], False),
    ],
)
def test_a_second_engine_fits_where_the_first_ones_memory_is_free_with_a_margin(
    card: Card, tenants: list[str], room: bool
) -> None:
    assert fits(card, scenario("healthy"), *tenants, report=load()) is room


def test_every_card_that_the_engine_uses_needs_room(card: Card) -> None:
    """Cards of 80 GiB."""
    both = [f"tenant {number} PID {size} python" for number, size in ((0, GIB), (2, 30 * GIB))]
    assert fits(card, scenario("eight_devices"), *both, report=load()) is True
    full = both[1].replace(str(30 * GIB), str(45 * GIB))
    assert fits(card, scenario("eight_devices"), both[0], full, report=load()) is False
    # Others' memory on a card that the engine does not use doesn't matter.
    other = "compute 5 4194300 85000000000 train"
    assert fits(card, scenario("eight_devices"), *both, other, report=load()) is True


REPORTED = DeviceLoad("Vulkan0", "card", 31, 3 * GIB, GIB, GIB, free_bytes=12 * GIB)
SHORT = DeviceLoad("Vulkan1", "card", 31, 3 * GIB, GIB, GIB, free_bytes=11 * GIB)
HOST = DeviceLoad("CPU", "", 1, 40 * GIB)


@pytest.mark.parametrize(
    ("report", "room"),
    [
        (load(REPORTED, HOST), True),
        (load(REPORTED, SHORT), False),
        (load(DeviceLoad("Vulkan0", "", 31, GIB)), False),
        (load(), False),
        (load(HOST, layers=0), True),
        (None, True),
    ],
    ids=["room", "one is short", "unknown", "no device", "on the CPU", "an application"],
)
def test_without_nvml_what_llama_cpp_reported_counts(
    report: GpuUtilization | None, room: bool
) -> None:
    assert cards_have_room_beside(None, [], report) is room


def test_a_card_that_nvml_does_not_watch_counts_as_reported(card: Card) -> None:
    assert fits(card, scenario("healthy"), report=load(REPORTED)) is True
    assert fits(card, scenario("healthy"), report=load(SHORT)) is False


def test_an_application_uses_no_card_unless_it_may_be_there_under_another_number(
    card: Card,
) -> None:
    assert fits(card, scenario("healthy")) is True
    assert fits(card, scenario("healthy") + "compute 0 4194300 1073741824 python\n") is False
    assert fits(card, scenario("healthy"), f"tenant 0 PID {12 * GIB} python") is False
