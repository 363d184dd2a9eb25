"""Memory needs estimated from the model's header, before the model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import tiny_llama

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.tune.fit import FreeMemory, MemoryNeed, ModelShape

GIB = 1 << 30


@pytest.fixture(scope="module")
def model() -> Path:
    return tiny_llama(layers=2, width=64)


@pytest.fixture(scope="module")
def shape(model: Path) -> ModelShape:
    found = ModelShape.read([model])
    assert found is not None
    return found


def config(model: Path, **llm: object) -> dict[str, object]:
    return LlamaCppConfig(model_path=str(model), **{"n_threads": 1, **llm}).resolved(model)  # type: ignore[arg-type]


def test_the_header_has_the_sizes(shape: ModelShape, model: Path) -> None:
    # Two heads of 32, which share one pair of keys and values.
    assert shape.keys == shape.values == (32, 32)
    assert (shape.width, shape.inner, shape.heads, shape.vocabulary) == (64, 128, 2, 512)
    assert shape.file_bytes == model.stat().st_size


@pytest.mark.parametrize(
    "llm",
    [
        {"n_ctx": 8192, "max_tokens": 8},
        {"n_ctx": 4096, "flash_attn": True, "type_k": "q8_0", "type_v": "q8_0"},
    ],
)
def test_the_estimate_is_what_the_engine_reports(
    shape: ModelShape, model: Path, llm: dict[str, object]
) -> None:
    settings = config(model, **llm)
    client = EngineClient.start(LaunchSpec("llama_cpp", settings))
    client.close()
    assert client.info.gpu is not None
    (cpu,) = [device for device in client.info.gpu.devices if device.is_host]
    need = shape.need(settings)
    assert need.cache == pytest.approx(cpu.kv_bytes, rel=0.01)
    assert cpu.compute_bytes <= 1.5 * need.compute
    assert need.compute <= 4 * cpu.compute_bytes


def test_what_does_not_fit_has_a_reason() -> None:
    need = MemoryNeed(model=1.0 * GIB, cache=4.0 * GIB, compute=0.5 * GIB)
    assert FreeMemory(host=8.0 * GIB).why_not(need) == ""
    why = FreeMemory(host=4.0 * GIB).why_not(need)
    assert "system memory needed" in why
    assert "KV cache 4.0 GiB" in why
    assert "4.0 GiB free" in why


def test_layers_on_a_gpu_need_its_memory() -> None:
    need = MemoryNeed(model=4.0 * GIB, cache=2.0 * GIB, compute=0.5 * GIB, on_gpu=1.0)
    assert "GPU memory" in FreeMemory(host=64.0 * GIB, gpu=6.0 * GIB).why_not(need)
    assert FreeMemory(host=1.0 * GIB, gpu=8.0 * GIB).why_not(need) == ""
    # Without a GPU the layers stay on the host, whatever is asked for.
    assert "system memory" in FreeMemory(host=4.0 * GIB).why_not(need)


def test_a_configured_maximum_is_a_bound() -> None:
    memory = FreeMemory(host=64.0 * GIB, limit=2.0 * GIB)
    assert memory.over_limit(1.0 * GIB, "it needs about") == ""
    assert "more than tune.max_memory (2.0 GiB)" in memory.over_limit(3.0 * GIB, "it needs about")


def test_a_file_that_can_not_be_read_is_left_to_the_load(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    assert ModelShape.read([broken]) is None
