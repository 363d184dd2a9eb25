"""The memory bandwidth of GPUs, from what the driver in a stand-in library reports."""

from __future__ import annotations

from typing import Any

import pytest

#: Name, MiB, bus width in bits, NVML's maximum memory clock in MHz, and the data sheet's GB/s.
CARDS = [
    ("NVIDIA GeForce RTX 4090", 24564, 384, 10501, 1008),
    ("NVIDIA GeForce RTX 5090", 32607, 512, 14001, 1792),
    ("NVIDIA A100-SXM4-40GB", 40960, 5120, 1215, 1555),
    ("NVIDIA H100 80GB HBM3", 81559, 5120, 2619, 3352),
    ("NVIDIA L4", 23034, 192, 6251, 300),
    ("Tesla T4", 15360, 256, 5001, 320),
    ("Tesla V100-SXM2-16GB", 16384, 4096, 877, 898),
]


def card(name: str, mib: int, bits: int, mhz: int, index: int = 0) -> str:
    return (
        f"device {index} GPU-{index}{index}00 {mib} 450000 4 16 {name}\n"
        f"buswidth {index} {bits}\nclocks {index} 1000 2000 405 {mhz}\n"
    )


@pytest.mark.parametrize(("name", "mib", "bits", "mhz", "gigabytes"), CARDS)
def test_the_bandwidth_is_that_of_the_data_sheet(
    ask_nvml: Any, name: str, mib: int, bits: int, mhz: int, gigabytes: int
) -> None:
    (found,) = ask_nvml("gpu_bandwidths()", card(name, mib, bits, mhz))
    assert found["gpu"] == name
    assert found["bytes_per_s"] / 1e9 == pytest.approx(gigabytes, rel=0.002)
    assert found["how"] == f"{bits} bit x {mhz} MHz x 2"


def test_every_card_has_its_own(ask_nvml: Any) -> None:
    scenario = card("NVIDIA L4", 23034, 192, 6251) + card(
        "NVIDIA GeForce RTX 4090", 24564, 384, 10501, index=1
    )
    found = ask_nvml("gpu_bandwidths()", scenario)
    assert [round(gpu["bytes_per_s"] / 1e9) for gpu in found] == [300, 1008]
    (hidden,) = ask_nvml("gpu_bandwidths()", scenario, CUDA_VISIBLE_DEVICES="1")
    assert hidden["gpu"] == "NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize(
    ("mib", "compute", "slices", "profile", "eighths"),
    [
        (9984, 1, 1, "1g.10gb", 1),
        (20096, 2, 2, "2g.20gb", 2),
        (40448, 3, 3, "3g.40gb", 4),
        (81056, 7, 7, "7g.80gb", 8),
    ],
)
def test_a_slice_has_as_much_of_the_bandwidth_as_of_the_memory(
    ask_nvml: Any, mib: int, compute: int, slices: int, profile: str, eighths: int
) -> None:
    whole = card("NVIDIA H100 80GB HBM3", 81559, 5120, 2619)
    name = f"NVIDIA H100 80GB HBM3 MIG {profile}"
    scenario = f"{whole}mig 0 0 MIG-0001 {mib} {compute} {slices} {name}\n"
    (found,) = ask_nvml("gpu_bandwidths()", scenario)
    assert found["gpu"] == "NVIDIA H100 80GB HBM3"
    assert found["bytes_per_s"] / 1e9 == pytest.approx(3352 * eighths / 8, rel=0.002)
    assert found["how"].endswith(f"{eighths} of 8 memory slices ({profile})")


def test_a_card_that_does_not_report_it_has_none_and_says_so(ask_nvml: Any) -> None:
    (found,) = ask_nvml("gpu_bandwidths()", "device 0 GPU-aa00 24564 - - - NVIDIA GB10\n")
    assert found["bytes_per_s"] is None
    assert found["how"] == "the NVIDIA GB10 does not report its memory's bus width and clock"


def test_without_a_driver_there_are_none(ask_nvml: Any) -> None:
    assert ask_nvml("gpu_bandwidths()", "init 9\n") == []
