"""Why layers are not on the required GPU, according to an engine's report of its load."""

from __future__ import annotations

import pytest

from pytest_llmperf.engine.gpu_shortfall import (
    GpuRequirement,
    LoadContext,
    Shortfall,
    ShortfallCause,
    find_shortfall,
)
from pytest_llmperf.engine.load_report import DeviceLoad, GpuStatus, GpuUtilization

CUDA = LoadContext("cuda", "0.3.36", platform="linux")
ALL = GpuRequirement()


def load_of_layers(
    *layers: int, asked: int = -1, status: GpuStatus = GpuStatus.AS_ASKED
) -> GpuUtilization:
    """Return the load of a model of 31 layers, by layers per GPU; the rest is on the host."""
    cards = [
        DeviceLoad(f"CUDA{number}", "NVIDIA GeForce RTX 4090", count)
        for number, count in enumerate(layers)
    ]
    host = DeviceLoad("CPU", layers=31 - sum(layers))
    return GpuUtilization(status, sum(layers), 31, asked, (*cards, host))


def shortfall_of(
    gpu: GpuUtilization, requirement: GpuRequirement = ALL, situation: LoadContext = CUDA
) -> Shortfall:
    shortfall = find_shortfall(gpu, requirement, situation)
    assert shortfall is not None
    return shortfall


@pytest.mark.parametrize(
    ("gpu", "requirement"),
    [
        (load_of_layers(31), ALL),
        (load_of_layers(16, 15), ALL),
        (load_of_layers(31), GpuRequirement(layers=99)),
        (load_of_layers(12, asked=12), GpuRequirement(layers=12)),
        (load_of_layers(31), GpuRequirement(device="CUDA0")),
        (load_of_layers(31), GpuRequirement(device="rtx 4090")),
        (load_of_layers(16, 15), GpuRequirement(device="4090")),
        (load_of_layers(0, 12, asked=12), GpuRequirement(12, "cuda1")),
    ],
)
def test_a_requirement_that_is_met_has_nothing_to_explain(gpu, requirement):
    assert find_shortfall(gpu, requirement, CUDA) is None


def test_a_build_without_gpu_code_is_to_be_reinstalled_in_the_same_version():
    shortfall = shortfall_of(load_of_layers(status=GpuStatus.CPU_ONLY_BUILD))

    assert shortfall.cause is ShortfallCause.BUILD
    assert shortfall.reason == "0 of 31 layers are on a GPU, and all are required"
    assert (
        'CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-cache-dir --no-deps '
        "--no-binary llama-cpp-python llama-cpp-python==0.3.36"
    ) in shortfall.remedy


def test_on_a_mac_the_build_is_metal():
    mac = LoadContext("cpu", "0.3.36", platform="darwin")
    shortfall = shortfall_of(load_of_layers(status=GpuStatus.CPU_ONLY_BUILD), situation=mac)

    assert "-DGGML_METAL=on" in shortfall.remedy
    assert "CUDA" not in shortfall.remedy


@pytest.mark.parametrize(
    ("backend", "name", "value"),
    [
        ("cuda", "CUDA_VISIBLE_DEVICES", ""),
        ("cuda", "CUDA_VISIBLE_DEVICES", "-1"),
        ("hip", "HIP_VISIBLE_DEVICES", "7"),
        ("vulkan", "GGML_VK_VISIBLE_DEVICES", ""),
    ],
)
def test_a_variable_that_hides_the_devices_is_named_with_its_value(backend, name, value):
    hiding = LoadContext(backend, environ={name: value})
    shortfall = shortfall_of(load_of_layers(status=GpuStatus.NO_DEVICE), situation=hiding)

    assert shortfall.cause is ShortfallCause.NO_DEVICE
    assert f"the {backend} build sees no GPU, and {name} is {value!r}" in shortfall.explanation
    assert shortfall.remedy.startswith(f"unset {name}")


@pytest.mark.parametrize(
    ("backend", "says"),
    [("cuda", "nvidia-smi"), ("vulkan", "mesa-vulkan-drivers"), ("opencl", "the card's driver")],
)
def test_without_such_a_variable_it_is_the_driver(backend, says):
    shortfall = shortfall_of(
        load_of_layers(status=GpuStatus.NO_DEVICE), situation=LoadContext(backend)
    )

    assert "VISIBLE_DEVICES is" not in shortfall.explanation
    assert says in shortfall.remedy


@pytest.mark.parametrize(
    ("required", "remedy"),
    [
        (None, "set llm.n_gpu_layers: -1"),
        (20, "set llm.n_gpu_layers: -1, or 20 at least"),
        (99, "set llm.n_gpu_layers: -1"),
    ],
)
def test_a_setting_that_asks_for_fewer_is_named_with_its_place(required, remedy):
    where = LoadContext("cuda", set_by="config.yaml:8")
    shortfall = shortfall_of(load_of_layers(12, asked=12), GpuRequirement(layers=required), where)

    assert shortfall.cause is ShortfallCause.SETTING
    assert shortfall.explanation == "llm.n_gpu_layers is only 12 (config.yaml:8)"
    assert shortfall.remedy == remedy


def test_fewer_layers_than_asked_are_put_down_to_memory():
    shortfall = shortfall_of(load_of_layers(12, status=GpuStatus.FEWER))

    assert shortfall.cause is ShortfallCause.MEMORY
    assert "all layers were asked for and fewer were placed" in shortfall.explanation
    assert "llm.n_ctx" in shortfall.remedy


def test_layers_shared_with_another_card_are_told_which_setting_parts_them():
    shortfall = shortfall_of(load_of_layers(16, 15), GpuRequirement(device="CUDA1"))

    assert shortfall.cause is ShortfallCause.DEVICE
    assert shortfall.reason == "15 of 31 layers are on 'CUDA1', and all are required"
    assert shortfall.remedy == "set llm.split_mode: none and llm.main_gpu: 1"


def test_enough_layers_on_the_asked_card_and_some_on_another_are_a_shortfall():
    shortfall = shortfall_of(load_of_layers(16, 15), GpuRequirement(10, "CUDA1"))

    assert shortfall.cause is ShortfallCause.DEVICE
    assert shortfall.reason == "16 of 31 layers are on a GPU other than 'CUDA1'"


def test_a_card_that_is_not_there_is_answered_with_those_that_are():
    # Whatever n_gpu_layers asks for: more layers would go to another card.
    for gpu in (load_of_layers(31), load_of_layers(12, asked=12)):
        shortfall = shortfall_of(gpu, GpuRequirement(device="A100"))

        assert shortfall.cause is ShortfallCause.DEVICE
        assert shortfall.explanation == (
            "the engine has no device 'A100'; it has CUDA0 (NVIDIA GeForce RTX 4090)"
        )


def test_the_host_is_no_device_that_can_be_asked_for():
    shortfall = shortfall_of(load_of_layers(12, asked=12), GpuRequirement(12, "CPU"))

    assert shortfall.reason == "0 of 31 layers are on 'CPU', and 12 are required"
    assert shortfall.cause is ShortfallCause.DEVICE


def test_the_whole_story_names_what_every_device_holds():
    lines = str(shortfall_of(load_of_layers(12, asked=12))).splitlines()

    assert [line.partition(":")[0].strip() for line in lines[1:3]] == ["cause", "remedy"]
    assert lines[3:] == [
        "  CUDA0 (NVIDIA GeForce RTX 4090): 12 layers",
        "  CPU: 19 layers",
    ]
