"""Layers on a real device: their number, their bytes, and llama.cpp's own report of the load."""

from __future__ import annotations

import re

import pytest
from gpu_loads import SMALL

from pytest_llmperf.engine.errors import EngineLoadError
from pytest_llmperf.engine.gpu_shortfall import GpuRequirement, LoadContext, find_shortfall
from pytest_llmperf.engine.load_report import GpuStatus

MIB = 1024 * 1024
#: Layers of the embedded model, including the output layer.
LAYERS = 31
#: Bytes of one layer's cache: keys and values, f16, 3 heads of 64.
KV_OF_A_LAYER = SMALL["n_ctx"] * 2 * 2 * 3 * 64
#: llama.cpp rounds what it logs to hundredths of a MiB, one line for each device.
ROUNDED = 0.02 * MIB


def logged_mib(load, kind: str) -> dict[str, float]:
    """Return the MiB of each buffer of one kind, as llama.cpp logged them."""
    sizes: dict[str, float] = {}
    for line in load.log:
        if match := re.search(rf"(\S+) +{kind} buffer size = +([\d.]+) MiB", line):
            sizes[match[1]] = sizes.get(match[1], 0) + float(match[2])
    return sizes


def on_gpus(load, kind: str) -> int:
    return sum(getattr(device, kind) for device in load.gpu.gpus)


def on_host(load, kind: str) -> int:
    return sum(getattr(device, kind) for device in load.gpu.devices if device.is_host)


def test_full_offload_is_told_by_layers_bytes_and_the_engines_own_report(full):
    gpu = full.gpu

    assert gpu.status is GpuStatus.FULL
    assert str(gpu) == "GPU Utilization: 31/31 layers on GPU"
    assert full.logged(f"offloaded {LAYERS}/{LAYERS} layers to GPU")
    assert sum(device.layers for device in gpu.gpus) == LAYERS
    assert on_gpus(full, "kv_bytes") == pytest.approx(30 * KV_OF_A_LAYER, abs=ROUNDED)
    assert on_host(full, "kv_bytes") == 0
    # Every weight is there: the output layer shares its own with the input layer, on the host.
    assert on_gpus(full, "model_bytes") >= 0.99 * full.info.model_bytes
    assert on_gpus(full, "compute_bytes") > 0


def test_partial_offload_counts_layers_and_cache_on_both_sides(load):
    partial = load(n_gpu_layers=12)

    assert partial.gpu.status is GpuStatus.AS_ASKED
    assert partial.logged(f"offloaded 12/{LAYERS} layers to GPU")
    assert sum(device.layers for device in partial.gpu.gpus) == 12
    assert on_host(partial, "layers") == 19
    # One of the twelve is the output layer, which has no cache.
    assert on_gpus(partial, "kv_bytes") == pytest.approx(11 * KV_OF_A_LAYER, abs=ROUNDED)
    assert on_host(partial, "kv_bytes") == pytest.approx(19 * KV_OF_A_LAYER, abs=ROUNDED)
    assert 0 < on_gpus(partial, "model_bytes") < partial.info.model_bytes
    assert not partial.gpu.kv_on_host


def test_no_offload_leaves_weights_and_cache_on_the_host(load):
    none = load(n_gpu_layers=0)

    assert none.gpu.status is GpuStatus.NONE_ASKED
    assert none.logged(f"offloaded 0/{LAYERS} layers to GPU")
    assert none.gpu.layers_on_gpu == 0
    assert (on_gpus(none, "model_bytes"), on_gpus(none, "kv_bytes")) == (0, 0)
    assert on_host(none, "kv_bytes") == pytest.approx(30 * KV_OF_A_LAYER, abs=ROUNDED)


def test_a_cache_on_the_host_is_named_although_every_layer_is_on_the_device(load):
    apart = load(offload_kqv=False)

    assert apart.gpu.status is GpuStatus.FULL
    assert on_gpus(apart, "kv_bytes") == 0
    assert on_host(apart, "kv_bytes") == pytest.approx(30 * KV_OF_A_LAYER, abs=ROUNDED)
    assert str(apart.gpu).endswith("(every layer is on a GPU; the KV cache is on the CPU)")


def test_hidden_devices_are_told_from_a_build_without_gpu_code(load, hidden):
    blind = load(env=hidden)

    assert blind.info.supports_gpu
    assert blind.gpu.status is GpuStatus.NO_DEVICE
    assert not blind.logged("layers to GPU")
    assert [device.name for device in blind.gpu.devices] == ["CPU"]
    assert on_host(blind, "layers") == LAYERS


@pytest.mark.parametrize("settings", [{}, {"n_gpu_layers": 12}, {"offload_kqv": False}])
def test_the_bytes_of_every_device_are_those_the_engine_logged(load, settings):
    loaded = load(**settings)

    for kind, logged in (("model_bytes", "model"), ("kv_bytes", "KV")):
        by_buffer = logged_mib(loaded, logged)
        assert by_buffer
        reported = sum(getattr(device, kind) for device in loaded.gpu.devices)
        assert reported == pytest.approx(sum(by_buffer.values()) * MIB, abs=ROUNDED)
        for device in loaded.gpu.gpus:
            own = sum(mib for name, mib in by_buffer.items() if name.startswith(device.name))
            assert getattr(device, kind) == pytest.approx(own * MIB, abs=ROUNDED)


def test_each_of_several_devices_has_its_own_layers_and_bytes(load):
    # A device that names itself is used once only, whatever is asked.
    several = load(env={"GGML_VK_VISIBLE_DEVICES": "0,0"})
    used = several.logged("using device ")

    assert used
    assert len(several.gpu.gpus) == len(used)
    assert sum(device.layers for device in several.gpu.gpus) == LAYERS
    for device in several.gpu.gpus:
        assert device.description
        assert device.free_bytes > 0
        assert min(device.layers, device.model_bytes, device.kv_bytes) > 0


def test_a_layer_on_another_device_than_asked_is_a_shortfall(full):
    name = full.gpu.gpus[0].name
    situation = LoadContext("vulkan")

    elsewhere = find_shortfall(full.gpu, GpuRequirement(device="no such card"), situation)

    assert elsewhere is not None
    assert f"no device 'no such card'; it has {name}" in elsewhere.explanation
    if len(full.gpu.gpus) == 1:
        assert find_shortfall(full.gpu, GpuRequirement(device=name.lower()), situation) is None


def test_a_context_too_large_for_the_device_is_told_with_what_to_make_smaller(load, full):
    with pytest.raises(EngineLoadError) as caught:
        load(n_ctx=6_000_000, type_k="f32", type_v="f32")

    hint = str(caught.value).splitlines()[-1]
    assert re.match(rf"hint: too little memory on {full.gpu.gpus[0].name} for the KV cache", hint)
    assert "a smaller llm.n_ctx" in hint


def test_a_card_that_is_not_there_is_told_by_its_setting(load):
    with pytest.raises(EngineLoadError, match=r"hint: llm\.main_gpu is 99, and the number of GPUs"):
        load(main_gpu=99, split_mode="none")
