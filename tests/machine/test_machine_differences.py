"""Which differences between machines refuse a comparison, and which are only shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.machine.cpu import Cpu
from pytest_llmperf.machine.fingerprint import (
    Difference,
    Machine,
    compare,
    describe,
    differences,
    info_differences,
    read_machine,
)
from pytest_llmperf.machine.gpu.devices import Gpu
from pytest_llmperf.session.session_gate import differences_line
from pytest_llmperf.stored_json import dump, read

GIB = 2**30
XEON = Cpu("Intel(R) Xeon(R) Processor", "6/143/8", "GenuineIntel", ("avx2", "fma"), "0x2b")
CARD = Gpu(
    "NVIDIA GeForce RTX 4090", "GPU-1", 24 * GIB, 450, pcie_generation_max=4, pcie_width_max=16
)


def cpu_machine(**changes: Any) -> Machine:
    facts: dict[str, Any] = {"cpu": XEON, "cores": 2, "memory_bytes": 24 * GIB, "backend": "cpu"}
    return describe(**{**facts, "gpus": (), **changes})


def gpu_machine(*gpus: Gpu, **changes: Any) -> Machine:
    return cpu_machine(**{"backend": "cuda", "gpus": gpus or (CARD,), **changes})


@pytest.mark.parametrize(
    ("changes", "item"),
    [
        ({"cores": 4}, "usable cores"),
        ({"backend": "vulkan"}, "backend"),
        ({"memory_bytes": 12 * GIB}, "memory GiB"),
        ({"cpu": replace(XEON, name="AMD EPYC 7763")}, "cpu"),
        ({"cpu": replace(XEON, family="6/207/2")}, "cpu family/model/stepping"),
        ({"cpu": replace(XEON, instructions=("avx2",))}, "cpu instructions"),
    ],
)
def test_what_decides_a_cpus_speed_refuses(changes: dict[str, Any], item: str) -> None:
    assert [d.item for d in differences(cpu_machine(**changes), cpu_machine())] == [item]


@pytest.mark.parametrize(
    ("cards", "items"),
    [
        ([replace(CARD, power_limit_w=300)], ["gpu power limit W"]),
        ([replace(CARD, name="NVIDIA GeForce RTX 4080")], ["gpus"]),
        ([replace(CARD, memory_bytes=16 * GIB)], ["gpu memory GiB"]),
        ([replace(CARD, mig="1g.10gb")], ["gpu MIG profile"]),
        ([CARD, CARD], ["gpus", "gpu memory GiB", "gpu MIG profile", "gpu power limit W"]),
    ],
)
def test_what_decides_a_gpus_speed_refuses(cards: list[Gpu], items: list[str]) -> None:
    assert [d.item for d in differences(gpu_machine(*cards), gpu_machine())] == items


def test_a_difference_carries_both_values() -> None:
    (difference,) = differences(gpu_machine(replace(CARD, power_limit_w=300)), gpu_machine())
    assert difference == Difference("gpu power limit W", baseline="450", current="300")
    assert str(difference) == "gpu power limit W: baseline 450, now 300"


def test_a_counter_that_is_no_longer_reported_refuses() -> None:
    (difference,) = differences(gpu_machine(replace(CARD, power_limit_w=None)), gpu_machine())
    assert difference.current == "unknown"


@pytest.mark.parametrize("cards", [(CARD,), (CARD, CARD)])
def test_what_was_never_known_is_no_difference(cards: tuple[Gpu, ...]) -> None:
    """The record lacks the item, and the cards have no value for it."""
    before = gpu_machine(*cards)
    assert before.strict["gpu MIG profile"] == [None] * len(cards)
    del before.strict["gpu MIG profile"]
    assert differences(gpu_machine(*cards), before) == []


def test_what_only_reads_the_same_is_a_difference() -> None:
    assert [d.item for d in compare({"flag": True, "list": []}, {"flag": "true", "list": {}})] == [
        *("flag", "list"),
    ]


def test_of_machines_with_other_backends_only_what_both_know_is_reported() -> None:
    result = differences_line(differences(gpu_machine(cores=16), cpu_machine()))
    assert result == "backend: base cpu, candidate cuda; usable cores: base 2, candidate 16"
    short = differences_line(
        differences(gpu_machine(replace(CARD, power_limit_w=None)), gpu_machine())
    )
    assert short == "gpu power limit W: base 450, candidate unknown"


def test_memory_that_jitters_does_not_refuse() -> None:
    assert differences(cpu_machine(memory_bytes=int(23.4 * GIB)), cpu_machine()) == []
    jittered = replace(CARD, memory_bytes=int(23.6 * GIB))
    assert differences(gpu_machine(jittered), gpu_machine()) == []


def test_another_card_of_the_same_kind_does_not_refuse() -> None:
    assert differences(gpu_machine(replace(CARD, uuid="GPU-2")), gpu_machine()) == []


def test_versions_are_shown_and_do_not_refuse() -> None:
    baseline = gpu_machine(driver="550.54.15")
    current = gpu_machine(driver="560.1", cpu=replace(XEON, microcode="0x2c"))
    assert differences(current, baseline) == []
    assert [d.item for d in info_differences(current, baseline)] == ["gpu driver", "microcode"]


def test_with_a_gpu_system_memory_does_not_refuse() -> None:
    assert differences(gpu_machine(memory_bytes=64 * GIB), gpu_machine()) == []


def test_a_card_that_the_backend_does_not_use_is_no_part_of_the_machine() -> None:
    with_card, without = read_machine("cpu", [CARD]), read_machine("cpu")
    assert (with_card.key, with_card.strict) == (without.key, without.strict)
    # Recorded, so that a build that uses it is known to run on the same machine.
    assert [d.item for d in info_differences(with_card, without)][:1] == ["gpus"]


def test_this_machine_survives_json_and_equals_itself() -> None:
    machine = read_machine("cpu")
    again = read(Machine, json.loads(json.dumps(dump(machine))))
    assert again == machine
    assert differences(read_machine("cpu"), again) == []


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ([], "object"),
        ({"strict": {}, "info": {}}, "key"),
        ({"key": "../up", "strict": {}, "info": {}}, "key"),
        ({"key": "a-2c_cpu", "strict": [], "info": {}}, "strict"),
        ({"key": "a-2c_cpu", "strict": {}}, "info"),
    ],
)
def test_a_stored_machine_of_the_wrong_shape_is_named(data: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        read(Machine, data)
