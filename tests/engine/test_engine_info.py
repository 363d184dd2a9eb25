from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from ended_processes import wait_until_ended

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.installed import installed_backend, llama_arguments
from pytest_llmperf.engine.kinds import LLAMA_CPP
from pytest_llmperf.engine.load_report import GpuStatus
from pytest_llmperf.engine.request import build_request

cpu_only = pytest.mark.skipif(installed_backend() != "cpu", reason="needs a build without GPU code")


def test_the_model_is_named_with_its_quantization_and_layers(engine: LlmEngine) -> None:
    info = engine.info

    assert info.model_name == "SmolLM2-135M-Instruct.Q4_1"
    assert info.quantization == "Q4_1"
    assert info.architecture == "llama"
    assert info.n_layers == 30


def test_sizes_are_those_of_the_file_and_of_the_tensors_in_it(
    engine: LlmEngine, model_file: Path
) -> None:
    info = engine.info

    assert info.file_bytes == model_file.stat().st_size
    assert 0.9 * info.file_bytes < info.model_bytes < info.file_bytes
    assert info.parameters == 134_515_008


def test_context_threads_and_build_are_told(engine: LlmEngine) -> None:
    info = engine.info

    assert (info.n_ctx, info.n_batch) == (512, 256)
    assert (info.n_threads, info.n_threads_batch) == (1, 1)
    assert info.engine_version == llama_cpp.__version__
    assert "CPU" in info.build_flags


@cpu_only
def test_a_build_without_gpu_code_is_named(
    engine: LlmEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="pytest_llmperf"):
        utilization = engine.verify_gpu_utilization()

    assert utilization.status is GpuStatus.CPU_ONLY_BUILD
    assert (utilization.layers_on_gpu, utilization.total_layers) == (0, 31)
    assert "GPU Utilization: 0/31 layers on GPU (CPU-only build: reinstall" in caplog.text


@cpu_only
def test_the_host_holds_model_cache_and_compute_buffers(engine: LlmEngine) -> None:
    (device,) = engine.verify_gpu_utilization().devices

    assert device.name == "CPU"
    assert device.layers == 31
    assert device.model_bytes > 80_000_000
    # 30 layers x 512 tokens x (3 heads x 64) x (keys + values) x f16
    assert device.kv_bytes == 30 * 512 * 192 * 2 * 2
    assert device.compute_bytes > 0


def test_an_application_does_not_say_where_its_layers_are(app: Callable[..., LlmEngine]) -> None:
    with pytest.raises(EngineError, match="engine 'app' does not report where its layers are"):
        app("def answer(prompt): return 'hi'").verify_gpu_utilization()


def test_extra_arguments_reach_llama(
    llama_config: Callable[..., dict[str, Any]], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    request = build_request(prompt="Once upon a time", max_tokens=6)
    plain = clients(LaunchSpec("llama_cpp", llama_config())).request(request)

    # A rotary base that the model was not trained with confuses it.
    changed = clients(LaunchSpec("llama_cpp", llama_config(extra={"rope_freq_base": 9.0})))

    assert changed.request(request).token_ids != plain.token_ids


def test_names_llama_does_not_take_are_found_with_the_nearest_it_does() -> None:
    text = "the installed llama_cpp.Llama takes no such argument"
    assert LLAMA_CPP.refused(["rope_freq_bas", "rope_freq_base", "zzz"]) == {
        "rope_freq_bas": f"{text}; did you mean 'rope_freq_base'?",
        "zzz": text,
    }


def test_the_arguments_read_from_source_are_those_of_the_real_signature() -> None:
    import inspect

    real = set(inspect.signature(llama_cpp.Llama.__init__).parameters) - {"self", "kwargs"}

    assert llama_arguments() == real


def test_an_argument_llama_refuses_is_a_load_error(
    llama_config: Callable[..., dict[str, Any]], spawned: list[int]
) -> None:
    config = llama_config(extra={"rope_freq_base": "x"})

    with pytest.raises(EngineLoadError, match=r"llama.cpp could not load"):
        EngineClient.start(LaunchSpec("llama_cpp", config))

    assert wait_until_ended(spawned[0])
