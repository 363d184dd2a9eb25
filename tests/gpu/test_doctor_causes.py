"""The doctor's causes that concern the GPU, each from a real load on the device."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpu_loads import SMALL

from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.diagnosis.cause import CauseEvidence
from pytest_llmperf.diagnosis.registry import CAUSES, examine
from pytest_llmperf.diagnosis.situation import Situation, WorkloadSize, look_at_hardware
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.installed import installed_backend

Look = Callable[..., Situation]


@pytest.fixture(scope="session")
def look() -> Look:
    """Load the model with these settings and variables, each combination once."""
    model = resolve_model("smollm2-135m", Path())
    hardware = look_at_hardware()
    done: dict[str, Situation] = {}

    def make(env: dict[str, str] | None = None, python: str = "", **settings: Any) -> Situation:
        key = repr((env, python, settings))
        if key not in done:
            config = LlamaCppConfig(**{**SMALL, **settings}).resolved(model)
            spec = LaunchSpec("llama_cpp", config, python=python or sys.executable, env=env or {})
            use, size = WorkloadSize(24, 2, 26), model.stat().st_size
            try:
                client = EngineClient.start(spec)
            except EngineError as error:
                done[key] = Situation(
                    config, hardware, None, use, load_error=str(error), model_bytes=size
                )
            else:
                done[key] = Situation(config, hardware, client.info, use, model_bytes=size)
                client.close()
        return done[key]

    return make


def evidence(situation: Situation, name: str) -> CauseEvidence | None:
    (cause,) = (cause for cause in CAUSES if cause.name == name)
    return cause.look(situation)


def evidence_shown(situation: Situation, name: str) -> CauseEvidence:
    found = evidence(situation, name)
    assert found is not None
    return found


def certain(situation: Situation) -> list[str]:
    return [finding.cause.name for finding in examine(situation) if finding.evidence.certain]


def test_a_model_that_is_all_on_the_gpu_has_no_cause(look: Look) -> None:
    assert certain(look()) == []


@pytest.mark.parametrize("layers", [0, 12])
def test_layers_left_on_the_cpu_by_the_setting_come_first(look: Look, layers: int) -> None:
    situation = look(n_gpu_layers=layers)
    assert certain(situation)[0] == "layers_not_asked"
    cause = evidence_shown(situation, "layers_not_asked")
    assert f"n_gpu_layers: {layers} leaves {31 - layers} of 31 layers on the CPU" in cause.text
    assert "all need about" in cause.text
    assert cause.remedy.settings == {"n_gpu_layers": -1}


def test_where_memory_is_short_as_many_layers_are_named_as_fit(look: Look) -> None:
    """The card's report of a real load, with the free memory of a smaller card."""
    situation = with_free(look(n_gpu_layers=4), 80 << 20)
    cause = evidence_shown(situation, "layers_not_asked")
    fits = cause.remedy.settings["n_gpu_layers"]
    assert 4 < fits < 31
    assert f"about {fits} fit of" in cause.text
    assert look(n_gpu_layers=fits).info is not None
    full = with_free(look(n_gpu_layers=4), 16 << 20)
    assert evidence(full, "layers_not_asked") is None
    short = evidence_shown(full, "gpu_memory_short")
    assert "only 4 of 31 layers are on the GPU" in short.text
    assert "had 16.0 MiB free" in short.text


def with_free(situation: Situation, free: int) -> Situation:
    info = situation.info
    assert info is not None
    assert info.gpu is not None
    devices = tuple(
        device if device.name == "CPU" else replace(device, free_bytes=free)
        for device in info.gpu.devices
    )
    return replace(situation, info=replace(info, gpu=replace(info.gpu, devices=devices)))


@pytest.mark.skipif(installed_backend() != "vulkan", reason="a software device's memory is limited")
def test_a_card_without_room_for_the_layers_ends_the_load(look: Look, tmp_path: Path) -> None:
    """A real limit: the software device's memory is the process's own."""
    python = tmp_path / "limited_python"
    python.write_text(f'#!/bin/sh\nulimit -v 1100000\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    situation = look(python=str(python))
    assert situation.info is None
    cause = evidence_shown(situation, "gpu_memory_short")
    assert "a buffer of 92.1 MiB could not be allocated on the GPU" in cause.text
    assert cause.remedy.change.startswith("model_path: a smaller quantization")


def test_a_context_that_the_card_does_not_hold_is_the_context_not_the_card(look: Look) -> None:
    situation = look(n_ctx=50_000_000)
    assert situation.info is None
    assert certain(situation) == ["context_large"]


def test_a_gpu_build_that_is_shown_no_gpu(look: Look, hidden: dict[str, str]) -> None:
    situation = look(env=hidden)
    name = next(iter(hidden))
    blind = replace(situation.hardware, gpus_hidden_by=name)
    cause = evidence_shown(replace(situation, hardware=blind), "no_gpu_visible")
    assert f"all 31 layers run on the CPU; {name} hides every GPU" in cause.text
    assert cause.remedy.change == f"unset {name}"
    bare = replace(situation.hardware, gpus_hidden_by=None, cards=())
    assert (
        "must list it"
        in evidence_shown(replace(situation, hardware=bare), "no_gpu_visible").remedy.change
    )
    assert evidence(look(), "no_gpu_visible") is None


def test_the_kv_cache_kept_off_the_gpu(look: Look) -> None:
    cause = evidence_shown(look(offload_kqv=False), "kv_cache_on_cpu")
    assert "the KV cache (5.6 MiB) in system memory, with 31 of 31 layers" in cause.text
    assert cause.remedy.settings == {"offload_kqv": True}
    assert evidence(look(), "kv_cache_on_cpu") is None


def test_flash_attention_off_on_a_gpu_is_worth_trying(look: Look) -> None:
    cause = evidence_shown(look(), "flash_attention_off")
    assert not cause.certain
    assert "31 of 31 layers on the GPU" in cause.text
    assert evidence(look(flash_attn=True), "flash_attention_off") is None


def test_the_cpu_is_let_alone_where_it_computes_nothing(look: Look) -> None:
    situation = look(n_threads=(os.cpu_count() or 1) + 4)
    cause = evidence(situation, "threads_above_cores")
    assert cause is None or not cause.certain
    assert evidence(look(), "threads_too_few") is None
