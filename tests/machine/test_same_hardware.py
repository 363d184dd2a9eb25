"""One machine under two engine backends, and machines that only look like it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.machine.cpu import Cpu
from pytest_llmperf.machine.fingerprint import Machine, describe, read_machine, same_hardware
from pytest_llmperf.machine.gpu.devices import Gpu

GIB = 2**30
XEON = Cpu("Intel(R) Xeon(R) Processor", "6/143/8", "GenuineIntel", ("avx2", "fma"), "0x2b")
CARD = Gpu(
    "NVIDIA GeForce RTX 4090", "GPU-1", 24 * GIB, 450, pcie_generation_max=4, pcie_width_max=16
)
SOFTWARE = Gpu("llvmpipe (LLVM 15.0.6, 256 bits)")


def machine(backend: str, *used: Gpu, present: tuple[Gpu, ...] = (), **changes: Any) -> Machine:
    facts: dict[str, Any] = {"cpu": XEON, "cores": 8, "memory_bytes": 64 * GIB, **changes}
    made = describe(**facts, backend=backend, gpus=used)
    strict = describe(**facts, backend="cuda", gpus=present or used).strict
    cards = {item: strict[item] for item in strict if item.startswith("gpu")}
    info = made.info if used else {**made.info, **cards}
    return replace(made, info=info, present=cards)


def test_a_build_without_gpu_code_is_no_other_machine() -> None:
    assert same_hardware(machine("cpu", present=(CARD,)), machine("cuda", CARD))
    assert same_hardware(machine("cuda", CARD), machine("cpu", present=(CARD,)))


def test_another_gpu_backend_is_no_other_machine() -> None:
    assert same_hardware(machine("vulkan", CARD), machine("cuda", CARD))


def test_cards_that_are_hidden_from_the_engine_are_in_the_machine() -> None:
    assert same_hardware(machine("cuda", present=(CARD, CARD)), machine("cuda", CARD, CARD))
    assert same_hardware(machine("cuda", present=(CARD, CARD)), machine("cuda", CARD))


def test_a_device_in_software_is_the_processor() -> None:
    assert same_hardware(machine("cpu"), machine("vulkan", SOFTWARE))
    assert same_hardware(machine("vulkan", SOFTWARE), machine("cpu"))


@pytest.mark.parametrize(
    "changes",
    [
        {"cores": 4},
        {"memory_bytes": 32 * GIB},
        {"cpu": replace(XEON, name="AMD EPYC 7763")},
        {"cpu": replace(XEON, instructions=("avx2",))},
    ],
)
def test_another_processor_or_memory_is_another_machine(changes: dict[str, Any]) -> None:
    current = machine("cpu", present=(CARD,), **changes)
    assert not same_hardware(current, machine("cuda", CARD))


@pytest.mark.parametrize(
    "present",
    [
        (),
        (replace(CARD, name="NVIDIA GeForce RTX 4080"),),
        (replace(CARD, memory_bytes=16 * GIB),),
        (replace(CARD, power_limit_w=300),),
        (replace(CARD, mig="1g.10gb"),),
    ],
)
def test_a_machine_without_the_baselines_card_is_another(present: tuple[Gpu, ...]) -> None:
    assert not same_hardware(machine("cpu", present=present), machine("cuda", CARD))


def test_fewer_cards_than_the_baseline_used_are_another_machine() -> None:
    assert not same_hardware(machine("cpu", present=(CARD,)), machine("cuda", CARD, CARD))
    assert not same_hardware(machine("cuda", CARD), machine("cuda", CARD, CARD))


def test_a_baseline_that_does_not_say_what_cards_there_were_is_not_trusted() -> None:
    old = machine("cpu")
    bare = replace(old, info={k: v for k, v in old.info.items() if not k.startswith("gpu")})
    assert not same_hardware(machine("cuda", CARD), bare)


def test_the_same_backend_is_a_matter_of_the_fingerprint() -> None:
    assert not same_hardware(machine("cuda", CARD), machine("cuda", CARD))
    assert not same_hardware(machine("app"), machine("cpu"))


def test_a_fingerprint_of_another_shape_equals_nothing() -> None:
    odd = machine("cuda", CARD)
    odd.strict["gpus"] = "RTX 4090"
    assert not same_hardware(machine("cpu", present=(CARD,)), odd)


def test_this_machine_under_a_software_device_is_itself() -> None:
    assert same_hardware(read_machine("cpu"), read_machine("vulkan", [SOFTWARE]))
