"""Model files are read into memory again before an engine process is measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_specs import small_spec
from tiny_models import tiny_llama

import pytest_llmperf as perf
from pytest_llmperf.config.gguf import model_files
from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.kinds import LLAMA_CPP
from pytest_llmperf.machine.fitness import HostNeeds
from pytest_llmperf.measure import fresh_model
from pytest_llmperf.measure.fresh_model import read_model_again, start_engine
from pytest_llmperf.measure.sides import starter_of
from pytest_llmperf.session.machine_watch import WatchSettings
from pytest_llmperf.tune.look import look


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, ...]]:
    """Files of the models that are read again, in order."""
    reads: list[tuple[Path, ...]] = []
    monkeypatch.setattr(fresh_model, "read_again", reads.append)
    monkeypatch.setattr(fresh_model, "_read", {})
    return reads


def spec(model: Path, **settings: Any) -> LaunchSpec:
    return small_spec(model, n_ctx=64, **settings)


def test_each_model_is_read_once(tmp_path: Path, read: list[tuple[Path, ...]]) -> None:
    other = Path(shutil.copy(tiny_llama(), tmp_path / "other.gguf"))
    for model in (tiny_llama(), tiny_llama(), other, tiny_llama()):
        read_model_again(spec(model))
    assert read == [(tiny_llama(),), (other,)]
    other.write_bytes(other.read_bytes())
    read_model_again(spec(other))
    assert read[2:] == [(other,)]


def test_a_model_is_read_again_after_an_hour(
    read: list[tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds in (1000.0, 4599.0, 4601.0):
        monkeypatch.setattr(fresh_model.time, "monotonic", lambda seconds=seconds: seconds)
        read_model_again(spec(tiny_llama()))
    assert len(read) == 2


def test_all_parts_of_a_model_are_read(read: list[tuple[Path, ...]]) -> None:
    first = tiny_llama(shards=2)
    read_model_again(spec(first))
    assert read == [model_files(first)]
    assert len(read[0]) == 2


def test_what_is_measured_or_looked_at_is_read(
    tmp_path: Path, read: list[tuple[Path, ...]]
) -> None:
    models = [Path(shutil.copy(tiny_llama(), tmp_path / f"{n}.gguf")) for n in range(3)]
    few = {"n_ctx": 64, "max_tokens": 8, "n_threads": 1}
    setups = [perf.configuration(llm={**few, "model_path": str(model)}) for model in models]
    setups[0].starter()().close()
    starter_of(setups[1].spec)().close()
    look(setups[2].spec, [], WatchSettings(HostNeeds()), setups[2].perf)
    assert read == [(model,) for model in models]


@pytest.mark.parametrize(
    "settings", [{"use_mmap": False}, {"extra": {"lora_path": "adapter.gguf"}}]
)
def test_a_file_that_is_not_mapped_is_not_read(
    read: list[tuple[Path, ...]], settings: dict[str, Any]
) -> None:
    read_model_again(spec(tiny_llama(), **settings))
    assert read == []


def test_a_model_whose_layers_all_go_to_a_gpu_is_not_read(
    read: list[tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LaunchSpec, "kind", replace(LLAMA_CPP, backend=lambda: "cuda"))
    read_model_again(spec(tiny_llama(), n_gpu_layers=-1))
    assert read == []
    read_model_again(spec(tiny_llama(), n_gpu_layers=1))
    assert read == [(tiny_llama(),)]


def test_what_does_not_fit_into_memory_is_not_read(
    read: list[tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tiny_llama(shards=2)
    size = sum(file.stat().st_size for file in model_files(first))
    monkeypatch.setattr(fresh_model, "free_memory", lambda: 2 * size - 1)
    read_model_again(spec(first))
    assert read == []


def test_a_missing_file_is_reported_by_the_engine(
    tmp_path: Path, read: list[tuple[Path, ...]]
) -> None:
    with pytest.raises(EngineError, match="missing"):
        start_engine(spec(tmp_path / "missing.gguf"))
    assert read == []
