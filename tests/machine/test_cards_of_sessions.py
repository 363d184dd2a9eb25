"""Which cards a session holds, by its configuration and the environment of its engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stand_in_card import scenario

from pytest_llmperf.machine.gpu.claims import claimed_cards

DEFAULT = {"n_gpu_layers": -1, "split_mode": "layer", "main_gpu": 0}
CLAIMED = "__import__('pytest_llmperf.machine.gpu.claims', fromlist=['_']).claimed_cards"
EIGHT = scenario("eight_devices")
#: Two models of cards: CUDA calls the faster one 0.
MIXED = EIGHT.replace("16 NVIDIA H100 80GB HBM3", "16 NVIDIA RTX A400", 1)
EVERY = [f"GPU-{number}{number}00" for number in range(8)]

#: An engine's backend, settings and environment, and its cards.
Case = tuple[str, dict[str, Any], dict[str, str], Sequence[str] | None]


def show(*numbers: str, **also: str) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(numbers), **also}


def check(ask_nvml: Any, text: str, cases: Sequence[Case]) -> None:
    asked = [(backend, {**DEFAULT, **llm}, environ) for backend, llm, environ, _ in cases]
    answers = ask_nvml(f"[{CLAIMED}(*one) for one in {asked!r}]", text)
    for case, cards in zip(cases, answers, strict=True):
        assert cards == (None if case[3] is None else list(case[3])), case


def test_cards_are_known_by_uuid_however_they_are_called(ask_nvml: Any) -> None:
    alone = {"split_mode": "none", "main_gpu": 1}
    cases: list[Case] = [
        ("cuda", {}, {}, EVERY),
        ("cuda", {}, show("1"), ["GPU-1100"]),
        ("cuda", {}, show("GPU-1100"), ["GPU-1100"]),
        ("cuda", {}, show("GPU-11", "0"), ["GPU-1100", "GPU-0000"]),
        ("cuda", alone, {}, ["GPU-1100"]),
        ("cuda", alone, show("4", "5"), ["GPU-5500"]),
        ("cuda", {"split_mode": "none"}, show("4", "5"), ["GPU-4400"]),
        ("cuda", {"split_mode": "none", "main_gpu": 2}, show("4", "5"), None),
        ("app", {}, show("7"), ["GPU-7700"]),
        ("app", alone, show("4", "5"), ["GPU-4400", "GPU-5500"]),
    ]
    check(ask_nvml, EIGHT, cases)


def test_an_engine_that_may_use_the_processor_or_any_card_holds_the_machine(ask_nvml: Any) -> None:
    cases: list[Case] = [
        ("cpu", {}, show("0"), None),
        ("vulkan", {}, show("0"), None),
        ("cuda", {"n_gpu_layers": 0}, show("0"), None),
        ("cuda", {"n_gpu_layers": 12}, show("0"), None),
        ("cuda", {}, show(""), None),
        ("cuda", {}, show("-1"), None),
        ("cuda", {}, show("0", "99"), None),
        ("app", {}, {}, None),
    ]
    check(ask_nvml, EIGHT, cases)


def test_numbers_of_unequal_cards_count_in_the_order_of_the_bus_only(ask_nvml: Any) -> None:
    alone = {"split_mode": "none"}
    cases: list[Case] = [
        ("cuda", {}, show("0"), None),
        ("cuda", {}, show("0", CUDA_DEVICE_ORDER="PCI_BUS_ID"), ["GPU-0000"]),
        ("cuda", {}, show("GPU-0000"), ["GPU-0000"]),
        ("cuda", alone, {}, EVERY),
        ("cuda", alone, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, ["GPU-0000"]),
        ("cuda", alone, show("GPU-11", "GPU-00"), ["GPU-1100"]),
    ]
    check(ask_nvml, MIXED, cases)


def test_slices_of_a_card_are_one_card(ask_nvml: Any) -> None:
    cases: list[Case] = [
        ("cuda", {}, show("MIG-0001"), ["GPU-0000"]),
        ("cuda", {}, show("MIG-0002"), ["GPU-0000"]),
    ]
    check(ask_nvml, scenario("mig"), cases)


def test_without_nvml_a_card_is_what_the_environment_calls_it(ask_nvml: Any) -> None:
    cases: list[Case] = [
        ("cuda", {}, show("1", "0"), ["number-1", "number-0"]),
        ("cuda", {"split_mode": "none"}, show("01"), ["number-1"]),
        ("cuda", {}, show("GPU-1100"), None),
        ("cuda", {}, show(""), None),
        ("cuda", {}, {}, None),
    ]
    check(ask_nvml, "init 12\n", cases)


def test_a_cpu_build_asks_no_driver() -> None:
    assert claimed_cards("cpu", DEFAULT, show("0")) is None
