"""A running engine takes other settings: a new context on the model that stays loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from small_specs import small_spec
from tiny_models import tiny_llama

from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError, EngineLoadError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.request import Request

#: A context that fits in no memory: the model's many layers take 8 KiB per token.
HUGE = 50_000_000
ASK = Request(prompt="once upon a time", max_tokens=6)


def spec_of(**changes: Any) -> LaunchSpec:
    """Return the settings of a tiny model, with these changes."""
    model = tiny_llama(layers=64, name="deep-llama")
    return small_spec(model, **{"n_ctx": 256, "n_batch": 32, "n_ubatch": 32, **changes})


@pytest.fixture
def client() -> Iterator[EngineClient]:
    client = EngineClient.start(spec_of())
    yield client
    client.close()


@pytest.fixture
def engine() -> Iterator[LlmEngine]:
    engine = LlmEngine(spec_of(), max_tokens=4)
    yield engine
    engine.close()


def loaded(info: EngineInfo) -> dict[str, Any]:
    """Return what an engine reports about its settings and memory."""
    assert info.gpu is not None
    assert info.reads is not None
    return {
        "n_ctx": info.n_ctx,
        "batches": (info.n_batch, info.n_ubatch),
        "threads": (info.n_threads, info.n_threads_batch),
        "flash": info.flash_attn,
        "quantization": info.quantization,
        "layers": info.gpu.share,
        "devices": info.gpu.devices,
        "reads": info.reads,
    }


def test_a_reconfigured_engine_is_as_a_fresh_one(client: EngineClient) -> None:
    other = spec_of(
        n_ctx=1024, n_batch=64, n_ubatch=16, n_threads=2, flash_attn=True, type_k="q8_0"
    )
    before, pid = client.request(ASK), client.pid

    assert client.configure(other)

    fresh = EngineClient.start(other)
    try:
        assert loaded(client.info) == loaded(fresh.info)
        assert client.request(ASK).token_ids == fresh.request(ASK).token_ids
    finally:
        fresh.close()
    assert client.pid == pid
    assert client.configure(spec_of())
    assert client.request(ASK).token_ids == before.token_ids
    assert client.info.n_ctx == 256


def test_settings_of_the_model_take_another_process(client: EngineClient) -> None:
    before = client.info
    for changes in ({"use_mmap": False}, {"n_gpu_layers": 1}, {"extra": {"vocab_only": True}}):
        assert not client.takes(spec_of(**changes))
        assert not client.configure(spec_of(**changes))
    assert client.takes(spec_of(extra={"rope_freq_base": 5000.0}))
    assert client.info is before
    assert client.request(ASK).output_tokens == 6


def test_a_refused_context_costs_only_its_own_requests(client: EngineClient) -> None:
    with pytest.raises(EngineLoadError, match="could not load"):
        client.configure(spec_of(n_ctx=HUGE))
    assert client.alive
    assert not client.has_settings(spec_of(n_ctx=HUGE))
    with pytest.raises(EngineError, match="after settings that the engine refused"):
        client.request(ASK)
    with pytest.raises(EngineError, match="after settings that the engine refused"):
        client.reset()

    assert client.configure(spec_of(n_ctx=64))
    assert client.request(ASK).output_tokens == 6


def test_an_engine_uses_the_settings_asked_for_from_the_next_request_on(engine: LlmEngine) -> None:
    own = engine.info
    engine.use(spec_of(n_ctx=1024))
    pid = engine.worker_pid
    engine.reset()
    assert engine.info.n_ctx == 1024
    engine.use(spec_of(n_ctx=HUGE))
    with pytest.raises(EngineLoadError):
        engine.generate("x")
    engine.reset()
    engine.use(spec_of(n_ctx=64))
    assert engine.generate("x").output_tokens == 4
    assert (engine.last_info, engine.own_info) == (engine.info, own)
    assert engine.worker_pid == pid

    engine.use(spec_of(use_mmap=False))
    assert engine.info.use_mmap is False
    assert engine.worker_pid != pid
    engine.use()
    assert engine.info.n_ctx == 256


def test_an_application_takes_another_process_for_other_settings(
    app_spec: Callable[..., LaunchSpec], clients: Callable[[LaunchSpec], EngineClient]
) -> None:
    spec = app_spec("def answer(prompt): return 'hi'")
    client = clients(spec)
    assert client.configure(spec)
    assert not client.configure(replace(spec, config={**spec.config, "n_ctx": 5}))
    assert client.request(Request(prompt="x")).text == "hi"
