"""GPUs as the driver reports them, read through the real binding of a stand-in library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RTX_4090 = """driver 550.54.15
device 0 GPU-aa00 24564 450000 4 16 NVIDIA GeForce RTX 4090
"""
EIGHT = "driver 550.54.15\n" + "".join(
    f"device {i} GPU-{i}{i}00 81559 700000 5 16 NVIDIA H100 80GB HBM3\n" for i in range(8)
)
MIG = """driver 550.54.15
device 0 GPU-bb00 81559 700000 5 16 NVIDIA H100 80GB HBM3
mig 0 0 MIG-0001 9984 1 1 NVIDIA H100 80GB HBM3 MIG 1g.10gb
mig 0 1 MIG-0002 40448 2 3 NVIDIA H100 80GB HBM3
"""


def test_a_healthy_card_is_read_completely(ask_nvml: Any) -> None:
    reading = ask_nvml("read_gpus()", RTX_4090)
    assert (reading["driver"], reading["problem"]) == ("550.54.15", None)
    (gpu,) = reading["gpus"]
    known = {
        "name": "NVIDIA GeForce RTX 4090",
        "uuid": "GPU-aa00",
        "memory_bytes": 24564 << 20,
        "power_limit_w": 450,
        "mig": None,
        "pcie_generation_max": 4,
        "pcie_width_max": 16,
    }
    assert {name: gpu[name] for name in known} == known


def test_a_cards_link_and_limit_are_in_the_fingerprint(ask_nvml: Any) -> None:
    machine = ask_nvml("read_machine('cuda', read_gpus().gpus)", RTX_4090)
    assert machine["info"]["gpu PCIe"] == ["gen4 x16"]
    assert machine["strict"]["gpu power limit W"] == [450]


def test_eight_cards_make_one_readable_key(ask_nvml: Any) -> None:
    machine = ask_nvml("read_machine('cuda', read_gpus().gpus)", EIGHT)
    assert machine["key"] == "8x-h100-80gib_cuda"


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("3,1", ["GPU-3300", "GPU-1100"]),
        ("GPU-5500", ["GPU-5500"]),
        ("GPU-6", ["GPU-6600"]),
        ("", []),
        ("-1", []),
        ("2,-1,3", ["GPU-2200"]),
    ],
)
def test_cuda_visible_devices_selects_as_cuda_does(
    ask_nvml: Any, visible: str, uuids: list[str]
) -> None:
    reading = ask_nvml("read_gpus()", EIGHT, CUDA_VISIBLE_DEVICES=visible)
    assert [gpu["uuid"] for gpu in reading["gpus"]] == uuids
    assert reading["problem"] is None


@pytest.mark.parametrize("visible", ["0,9", "0,GPU-nope", "0,0"])
def test_a_wrong_entry_in_cuda_visible_devices_is_named(ask_nvml: Any, visible: str) -> None:
    reading = ask_nvml("read_gpus()", EIGHT, CUDA_VISIBLE_DEVICES=visible)
    assert [gpu["uuid"] for gpu in reading["gpus"]] == ["GPU-0000"]
    assert repr(visible.split(",")[1]) in reading["problem"]


def test_an_ambiguous_prefix_in_cuda_visible_devices_selects_nothing(ask_nvml: Any) -> None:
    reading = ask_nvml("read_gpus()", EIGHT, CUDA_VISIBLE_DEVICES="GPU-")
    assert reading["gpus"] == []
    assert "'GPU-'" in reading["problem"]


def test_a_partitioned_card_is_read_as_its_first_slice(ask_nvml: Any) -> None:
    machine = ask_nvml("read_machine('cuda', read_gpus().gpus)", MIG)
    assert machine["key"] == "1x-h100-mig-1g.10gb_cuda"
    assert machine["strict"]["gpus"] == ["NVIDIA H100 80GB HBM3"]
    assert machine["strict"]["gpu power limit W"] == [700]


def test_a_slice_is_selected_by_its_uuid_and_named_from_its_attributes(ask_nvml: Any) -> None:
    reading = ask_nvml("read_gpus()", MIG, CUDA_VISIBLE_DEVICES="MIG-0002")
    assert [gpu["mig"] for gpu in reading["gpus"]] == ["2c.3g.40gb"]


def test_counters_that_a_card_lacks_are_none(ask_nvml: Any) -> None:
    reading = ask_nvml("read_gpus()", "device 0 GPU-cc00 0 - - - NVIDIA GeForce MX150\n")
    (gpu,) = reading["gpus"]
    lacking = ("memory_bytes", "power_limit_w", "pcie_generation_max", "pcie_width_max")
    assert [gpu[name] for name in lacking] == [None] * len(lacking)
    assert reading["driver"] is None
    assert reading["problem"] is None


@pytest.mark.parametrize(
    ("code", "word"), [(18, "restart the machine"), (9, "not loaded"), (999, "Unknown Error")]
)
def test_a_driver_that_does_not_work_is_a_problem(ask_nvml: Any, code: int, word: str) -> None:
    reading = ask_nvml("read_gpus()", f"init {code}\n")
    assert reading["gpus"] == []
    assert word in reading["problem"]


def test_a_card_that_fell_off_the_bus_is_a_problem_and_the_others_are_read(ask_nvml: Any) -> None:
    reading = ask_nvml("read_gpus()", EIGHT + "lost 2\n")
    assert len(reading["gpus"]) == 7
    assert reading["problem"] == "GPU 2 does not answer: GPU is lost"


def test_a_driver_without_cards_is_no_problem(ask_nvml: Any) -> None:
    reading = ask_nvml("read_gpus()", "driver 550.54.15\n")
    assert reading == {"gpus": [], "driver": "550.54.15", "problem": None}


def test_no_driver_library_means_no_cards_and_no_problem(tmp_path: Path) -> None:
    # An unloadable file of that name shadows a real driver on machines that have one.
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    code = (
        "from pytest_llmperf.machine.gpu.devices import *\n"
        "from pytest_llmperf.machine.gpu.telemetry import Telemetry\n"
        "assert read_gpus() == GpuReading(), read_gpus()\n"
        "assert Telemetry.open() is None\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        check=True,
        timeout=60,
    )
