"""The machine's readable key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.machine.cpu import Cpu, parse_cpuinfo, short_name
from pytest_llmperf.machine.fingerprint import KEY_LENGTH, machine_key, read_machine
from pytest_llmperf.machine.gpu.devices import Gpu

GIB = 2**30
RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", memory_bytes=24564 << 20)
H100 = Gpu("NVIDIA H100 80GB HBM3", memory_bytes=81559 << 20)
H100_SLICE = Gpu("NVIDIA H100 80GB HBM3", memory_bytes=9984 << 20, mig="1g.10gb")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Intel(R) Core(TM) i9-13900K", "core-i9-13900k-2c_cpu"),
        ("13th Gen Intel(R) Core(TM) i7-1360P", "core-i7-1360p-2c_cpu"),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "xeon-platinum-8259cl-2c_cpu"),
        ("Intel Xeon Processor (Skylake, IBRS)", "xeon-skylake-ibrs-2c_cpu"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "ryzen-9-7950x-2c_cpu"),
        ("AMD Ryzen Threadripper PRO 5975WX 32-Cores", "ryzen-threadripper-pro-5975wx-2c_cpu"),
        ("AMD Ryzen 7 7840U w/ Radeon  780M Graphics", "ryzen-7-7840u-2c_cpu"),
        ("AMD EPYC 7763 64-Core Processor", "epyc-7763-2c_cpu"),
        ("Apple M2 Max", "apple-m2-max-2c_cpu"),
    ],
)
def test_vendor_noise_is_left_out_of_a_cpus_name(name: str, expected: str) -> None:
    assert machine_key("cpu", short_name(Cpu(name)), 2) == expected


@pytest.mark.parametrize(
    ("vendor", "name", "family", "expected"),
    [
        ("GenuineIntel", "Intel(R) Xeon(R) Processor", "6/143/8", "Xeon sapphire-rapids"),
        ("GenuineIntel", "Intel(R) Xeon(R) CPU @ 2.20GHz", "6/79/0", "Xeon broadwell"),
        ("GenuineIntel", "Intel(R) Xeon(R) CPU @ 2.00GHz", "6/85/3", "Xeon skylake"),
        ("GenuineIntel", "Intel(R) Xeon(R) CPU @ 2.80GHz", "6/85/7", "Xeon cascade-lake"),
        ("GenuineIntel", "Intel(R) Xeon(R) Processor", "6/106/6", "Xeon ice-lake"),
        ("GenuineIntel", "Intel(R) Xeon(R) Processor", "6/207/2", "Xeon emerald-rapids"),
        ("GenuineIntel", "Intel(R) Xeon(R) Processor", "6/173/1", "Xeon granite-rapids"),
        ("GenuineIntel", "Intel(R) Xeon(R) Processor", "6/167/1", "Xeon family6-model167"),
        ("AuthenticAMD", "AMD EPYC Processor (with IBPB)", "23/1/2", "EPYC zen1"),
        ("AuthenticAMD", "AMD EPYC Processor", "23/49/0", "EPYC zen2"),
        ("AuthenticAMD", "AMD EPYC Processor", "25/1/1", "EPYC zen3"),
        ("AuthenticAMD", "AMD EPYC Processor", "25/17/1", "EPYC zen4"),
        ("AuthenticAMD", "AMD EPYC Processor", "26/2/1", "EPYC zen5"),
        ("", "", "", "unknown-cpu"),
    ],
)
def test_a_virtual_machines_generic_name_is_completed_by_the_microarchitecture(
    vendor: str, name: str, family: str, expected: str
) -> None:
    assert short_name(Cpu(name, family=family, vendor=vendor)) == expected


def test_the_cores_in_a_cpus_key_are_those_this_process_may_use() -> None:
    from pytest_llmperf.cpus import usable_cpus

    assert read_machine("cpu").key.endswith(f"-{usable_cpus()}c_cpu")


@pytest.mark.parametrize(
    ("backend", "gpus", "expected"),
    [
        ("cuda", [RTX_4090], "1x-rtx-4090-24gib_cuda"),
        ("cuda", [H100, H100], "2x-h100-80gib_cuda"),
        ("cuda", [H100_SLICE], "1x-h100-mig-1g.10gb_cuda"),
        ("cuda", [RTX_4090, H100], "1x-rtx-4090-24gib_1x-h100-80gib_cuda"),
        ("cuda", [Gpu("Tesla T4", memory_bytes=15 * GIB)], "1x-t4-15gib_cuda"),
        ("cuda", [Gpu("NVIDIA A100-SXM4-40GB", memory_bytes=40 * GIB)], "1x-a100-sxm4-40gib_cuda"),
        ("cuda", [Gpu("NVIDIA RTX 6000 Ada Generation")], "1x-rtx-6000-ada_cuda"),
        ("vulkan", [Gpu("AMD Radeon RX 7900 XTX", memory_bytes=24 * GIB)],
         "1x-rx-7900-xtx-24gib_vulkan"),
        ("vulkan", [], "xeon-4c_vulkan"),
        ("cpu", [RTX_4090], "xeon-4c_cpu"),
    ],
)  # fmt: skip
def test_a_gpu_backends_key_names_its_cards(backend: str, gpus: list[Gpu], expected: str) -> None:
    assert machine_key(backend, "Xeon", 4, gpus) == expected


@given(
    backend=st.text(max_size=30) | st.just("b" * 200),
    cpu=st.text(max_size=200),
    gpu=st.one_of(st.none(), st.text(max_size=200)),
    count=st.integers(1, 40),
)
def test_a_key_is_always_a_safe_file_name(
    backend: str, cpu: str, gpu: str | None, count: int
) -> None:
    gpus = [] if gpu is None else [Gpu(f"{gpu}{index % 3}") for index in range(count)]
    key = machine_key(backend, cpu, 4, gpus)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", key)
    assert ".." not in key
    assert len(key) <= KEY_LENGTH


def test_an_arm_cpu_without_a_model_name_is_known_by_its_part() -> None:
    cpu = parse_cpuinfo(
        "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm sve\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd40\nCPU revision\t: 1\n"
    )
    assert short_name(cpu) == "neoverse-v1"
    assert cpu.family == "0x41/0xd40/r1p1"
    assert cpu.instructions == ("asimd", "asimddp", "i8mm", "sve")


def test_an_x86_cpu_is_read_from_its_first_processor() -> None:
    cpu = parse_cpuinfo(
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
        "model name\t: Intel(R) Xeon(R)  Processor\nstepping\t: 8\nmicrocode\t: 0x2b\n"
        "flags\t\t: fpu avx2 fma amx_int8 hypervisor\n\nprocessor\t: 1\nmodel\t\t: 1\n"
    )
    assert cpu == Cpu(
        "Intel(R) Xeon(R) Processor",
        family="6/143/8",
        vendor="GenuineIntel",
        instructions=("amx_int8", "avx2", "fma"),
        microcode="0x2b",
    )
