"""llama.cpp's load reports, as its builds print them for a model of 30 layers."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.engine.load_report import (
    GpuStatus,
    GpuUtilization,
    is_report_line,
    read_load_report,
)
from pytest_llmperf.engine.wire import decode, encode

MIB = 1024 * 1024
CUDA = (
    "llama_prepare_model_devices: using device CUDA0 (NVIDIA GeForce RTX 4090) (0000:01:00.0)"
    " - 23653 MiB free"
)


def assigned(*devices: tuple[str, range]) -> list[str]:
    return [
        f"load_tensors: layer {layer:3d} assigned to device {device}, is_swa = 0"
        for device, layers in devices
        for layer in layers
    ]


def offloaded(count: int) -> list[str]:
    return [
        "load_tensors: offloading output layer to GPU",
        f"load_tensors: offloading {max(count - 1, 0)} repeating layers to GPU",
        f"load_tensors: offloaded {count}/31 layers to GPU",
    ]


FULL = [
    CUDA,
    *assigned(("CUDA0", range(31))),
    *offloaded(31),
    "load_tensors:   CPU_Mapped model buffer size =    28.69 MiB",
    "load_tensors:        CUDA0 model buffer size =    86.25 MiB",
    "llama_context:  CUDA_Host  output buffer size =     0.19 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =    45.00 MiB",
    "sched_reserve:      CUDA0 compute buffer size =    97.12 MiB",
    "sched_reserve:  CUDA_Host compute buffer size =     5.13 MiB",
]
PARTIAL = [
    CUDA,
    *assigned(("CPU", range(19)), ("CUDA0", range(19, 31))),
    *offloaded(12),
    "load_tensors:   CPU_Mapped model buffer size =    80.00 MiB",
    "load_tensors:        CUDA0 model buffer size =    34.50 MiB",
    "llama_kv_cache:        CPU KV buffer size =    28.50 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =    16.50 MiB",
]
NONE = [CUDA, *assigned(("CPU", range(31))), *offloaded(0)]
NO_DEVICE = [
    "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
    *assigned(("CPU", range(31))),
    "load_tensors:   CPU_Mapped model buffer size =    93.61 MiB",
]
OLD_CUDA = [
    "llm_load_tensors: offloading 32 repeating layers to GPU",
    "llm_load_tensors: offloaded 33/33 layers to GPU",
    "llm_load_tensors:        CUDA0 model buffer size =  5049.71 MiB",
    "llm_load_tensors:   CPU_Mapped model buffer size =   245.62 MiB",
    "llama_kv_cache_init:      CUDA0 KV buffer size =   640.00 MiB",
]


def read(lines: list[str], asked: int = -1, gpu: bool = True) -> GpuUtilization:
    return read_load_report(lines, asked=asked, supports_gpu=gpu, n_layer=30)


@pytest.mark.parametrize(
    ("lines", "asked", "gpu", "status", "on_gpu"),
    [
        (FULL, -1, True, GpuStatus.FULL, 31),
        (FULL, 99, True, GpuStatus.FULL, 31),
        (PARTIAL, 12, True, GpuStatus.AS_ASKED, 12),
        (PARTIAL, -1, True, GpuStatus.FEWER, 12),
        (PARTIAL, 20, True, GpuStatus.FEWER, 12),
        (NONE, 0, True, GpuStatus.NONE_ASKED, 0),
        (NO_DEVICE, -1, True, GpuStatus.NO_DEVICE, 0),
        (NO_DEVICE[1:], -1, False, GpuStatus.CPU_ONLY_BUILD, 0),
        ([], -1, False, GpuStatus.CPU_ONLY_BUILD, 0),
    ],
)
def test_where_the_layers_went_has_a_name(
    lines: list[str], asked: int, gpu: bool, status: GpuStatus, on_gpu: int
) -> None:
    utilization = read(lines, asked, gpu)

    assert (utilization.status, utilization.layers_on_gpu) == (status, on_gpu)
    assert utilization.total_layers == 31


def test_a_build_with_rpc_counts_what_was_asked_and_is_not_believed() -> None:
    lines = [*assigned(("CPU", range(31))), *offloaded(31)]

    assert read(lines, gpu=False).status is GpuStatus.CPU_ONLY_BUILD
    assert read(lines, gpu=True).status is GpuStatus.NO_DEVICE


def test_layers_on_another_machine_count_as_on_a_gpu() -> None:
    lines = [*assigned(("RPC0", range(31))), *offloaded(31)]

    assert read(lines, gpu=False).layers_on_gpu == 31


def test_each_device_has_its_bytes_and_layers() -> None:
    gpu, host = read(FULL).devices

    assert (gpu.name, gpu.description, gpu.layers) == ("CUDA0", "NVIDIA GeForce RTX 4090", 31)
    assert gpu.model_bytes == round(86.25 * MIB)
    assert gpu.kv_bytes == 45 * MIB
    assert gpu.compute_bytes == round(97.12 * MIB)
    assert (host.name, host.layers, host.kv_bytes) == ("CPU", 0, 0)
    assert host.model_bytes == round(28.69 * MIB)
    assert host.compute_bytes == round(0.19 * MIB) + round(5.13 * MIB)


def test_layers_are_counted_on_both_sides_of_a_split() -> None:
    gpu, host = read(PARTIAL, 12).devices

    assert (gpu.layers, host.layers) == (12, 19)
    assert (gpu.kv_bytes, host.kv_bytes) == (round(16.5 * MIB), round(28.5 * MIB))


def test_several_cards_and_a_recurrent_state_are_told_apart() -> None:
    lines = [
        *assigned(("Vulkan0", range(15)), ("Vulkan1", range(15, 31))),
        "llama_memory_recurrent:    Vulkan0 RS buffer size =   201.00 MiB",
        "llama_kv_cache:    Vulkan1 KV buffer size =   256.00 MiB",
        "sched_reserve: Vulkan_Host compute buffer size =    72.07 MiB",
    ]

    by_name = {device.name: device for device in read(lines).devices}

    assert {name: device.layers for name, device in by_name.items()} == {
        "Vulkan0": 15,
        "Vulkan1": 16,
        "CPU": 0,
    }
    assert by_name["Vulkan0"].kv_bytes == 201 * MIB


def test_a_log_without_layer_lines_is_read_by_its_count() -> None:
    utilization = read_load_report(OLD_CUDA, asked=-1, supports_gpu=True, n_layer=32)

    assert utilization.status is GpuStatus.FULL
    assert (utilization.layers_on_gpu, utilization.total_layers) == (33, 33)


@pytest.mark.parametrize(
    ("lines", "options", "text"),
    [
        (FULL, {}, "GPU Utilization: 31/31 layers on GPU"),
        (
            PARTIAL,
            {},
            "GPU Utilization: 12/31 layers on GPU (fewer layers than asked: all asked; "
            "usually too little free GPU memory)",
        ),
        (
            NO_DEVICE,
            {},
            "GPU Utilization: 0/31 layers on GPU (no visible device: this build has GPU code, "
            "but the driver shows it no GPU)",
        ),
    ],
)
def test_the_line_that_is_logged(lines: list[str], options: dict[str, Any], text: str) -> None:
    assert str(read(lines, **options)) == text


def test_a_reservation_that_is_repeated_counts_once_and_the_last_one_does() -> None:
    again = "sched_reserve:      CUDA0 compute buffer size =    50.00 MiB"

    gpu, _ = read([*FULL, again]).devices

    assert gpu.compute_bytes == 50 * MIB


def test_a_model_in_several_buffers_is_counted_whole() -> None:
    more = "load_tensors:        CUDA0 model buffer size =    10.00 MiB"

    gpu, _ = read([*FULL, more]).devices

    assert gpu.model_bytes == round(96.25 * MIB)


def test_what_was_free_on_a_device_is_known() -> None:
    gpu, host = read(FULL).devices

    assert (gpu.free_bytes, host.free_bytes) == (23653 * MIB, 0)


def test_a_mapped_buffer_belongs_to_the_device_it_is_mapped_on() -> None:
    lines = [
        *assigned(("MTL0", range(31))),
        "load_tensors:  MTL0_Mapped model buffer size =   100.00 MiB",
        "load_tensors:   CPU_Mapped model buffer size =    28.69 MiB",
    ]

    assert [(d.name, d.model_bytes > 0) for d in read(lines).devices] == [
        ("MTL0", True),
        ("CPU", True),
    ]


def test_a_single_card_of_an_older_log_has_the_layers() -> None:
    gpu, host = read_load_report(OLD_CUDA, asked=-1, supports_gpu=True, n_layer=32).devices

    assert (gpu.name, gpu.layers, host.layers) == ("CUDA0", 33, 0)


CACHE_ON_HOST = [
    line.replace("CUDA0 KV", "  CPU KV") if "KV buffer" in line else line for line in FULL
]


def test_a_cache_on_the_host_is_said_where_all_layers_are_on_a_gpu() -> None:
    assert read(CACHE_ON_HOST).kv_on_host
    assert str(read(CACHE_ON_HOST)) == (
        "GPU Utilization: 31/31 layers on GPU (every layer is on a GPU; the KV cache is on the CPU)"
    )


def test_a_cache_on_the_host_is_no_news_where_its_layers_are_there_too() -> None:
    # One layer on a GPU is the output layer, which has no part in the cache.
    output_only = [
        CUDA,
        *assigned(("CPU", range(30)), ("CUDA0", range(30, 31))),
        "llama_kv_cache:        CPU KV buffer size =    45.00 MiB",
    ]

    for lines, asked in ((PARTIAL, 12), (output_only, 1), (NO_DEVICE, -1)):
        assert not read(lines, asked).kv_on_host


def test_a_device_is_told_in_one_line() -> None:
    gpu, host = read(FULL).devices

    assert str(gpu) == (
        "CUDA0 (NVIDIA GeForce RTX 4090): 31 layers, model 86.2 MiB, KV cache 45.0 MiB, "
        "compute 97.1 MiB"
    )
    assert str(host) == "CPU: 0 layers, model 28.7 MiB, compute 5.3 MiB"


def test_a_report_survives_the_wire() -> None:
    utilization = read(PARTIAL)

    assert GpuUtilization.from_wire(decode(encode(utilization.to_wire()))) == utilization


def test_debug_chatter_is_left_out_but_for_where_layers_go() -> None:
    assert is_report_line(1, assigned(("CPU", range(1)))[0])
    assert not is_report_line(1, "create_tensor: loading tensor token_embd.weight")
    assert is_report_line(2, "load_tensors: offloaded 31/31 layers to GPU")
