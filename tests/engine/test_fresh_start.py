"""Engine processes that are measured find their model file freshly read into memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_llama

import pytest_llmperf as perf
from pytest_llmperf.config.llm_section import LlamaCppConfig
from pytest_llmperf.engine import fresh_start
from pytest_llmperf.engine.client import LaunchSpec
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.fresh_start import start_engine
from pytest_llmperf.machine.fitness import Need
from pytest_llmperf.measure.sides import starter_of
from pytest_llmperf.session.machine_watch import WatchSettings
from pytest_llmperf.tune.look import look


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read again, in this order."""
    found: list[Path] = []
    monkeypatch.setattr(fresh_start, "read_again", found.append)
    monkeypatch.setattr(fresh_start, "_seen", set())
    return found


def started(model: Path, **settings: Any) -> None:
    few = {"n_ctx": 64, "max_tokens": 8, "n_threads": 1, "n_threads_batch": 1}
    config = LlamaCppConfig.model_validate({**few, **settings}).resolved(model)
    start_engine(LaunchSpec("llama_cpp", config)).close()


def test_each_file_is_read_once_a_session(tmp_path: Path, read: list[Path]) -> None:
    other = Path(shutil.copy(tiny_llama(), tmp_path / "other.gguf"))
    for model in (tiny_llama(), tiny_llama(), other, tiny_llama()):
        started(model)
    assert read == [tiny_llama(), other]
    other.write_bytes(other.read_bytes())
    started(other)
    assert read == [tiny_llama(), other, other]


def test_what_is_measured_or_looked_at_is_read(tmp_path: Path, read: list[Path]) -> None:
    models = [Path(shutil.copy(tiny_llama(), tmp_path / f"{n}.gguf")) for n in range(3)]
    few = {"n_ctx": 64, "max_tokens": 8, "n_threads": 1}
    setups = [perf.configuration(llm={**few, "model_path": str(model)}) for model in models]
    setups[0].starter()().close()
    starter_of(setups[1].spec)().close()
    look(setups[2].spec, [], WatchSettings(Need()), setups[2].perf)
    assert read == models


def test_a_file_that_is_not_mapped_is_not_read(read: list[Path]) -> None:
    started(tiny_llama(), use_mmap=False)
    assert read == []


def test_what_does_not_fit_into_memory_is_not_read(
    read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = tiny_llama().stat().st_size
    monkeypatch.setattr(fresh_start, "free_memory", lambda: 2 * size - 1)
    started(tiny_llama())
    assert read == []


def test_a_missing_file_is_reported_by_the_engine(tmp_path: Path, read: list[Path]) -> None:
    with pytest.raises(EngineError, match="missing"):
        started(tmp_path / "missing.gguf")
    assert read == []
