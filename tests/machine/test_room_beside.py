"""Whether a second engine's process may live beside one that is running."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.engine_kinds import engine_kind
from pytest_llmperf.machine import free_memory
from pytest_llmperf.machine.free_memory import has_room_beside
from pytest_llmperf.session.measuring import expected_turns, turns_beside


@pytest.mark.parametrize(
    ("times", "spare", "fits"), [(2.0, 600 << 20, True), (1.0, 400 << 20, False), (0.0, 0, False)]
)
def test_it_fits_where_as_much_is_free_once_more_and_some_to_spare(
    monkeypatch: pytest.MonkeyPatch, times: float, spare: int, fits: bool
) -> None:
    one = psutil.Process()
    held = sum(each.memory_info().rss for each in (one, *one.children(recursive=True)))
    monkeypatch.setattr(free_memory, "free_memory", lambda: int(times * held) + spare)
    assert has_room_beside(os.getpid()) is fits


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    assert not has_room_beside(2**22 + 1)


def client(engine: str = "llama_cpp", layers: int | None = 0) -> Any:
    gpu = None if layers is None else SimpleNamespace(layers_on_gpu=layers)
    info = SimpleNamespace(engine=engine, gpu=gpu)
    return SimpleNamespace(info=info, kind=engine_kind(engine), pid=os.getpid())


CPU: Any = SimpleNamespace(telemetry=None)
WATCHED: Any = SimpleNamespace(telemetry=object())


@pytest.mark.parametrize(
    ("facts", "asked", "engine", "turns"),
    [
        (CPU, "auto", client(), "tokens"),
        (CPU, "tokens", client(), "tokens"),
        (CPU, "iterations", client(), "iterations"),
        (CPU, "processes", client(), None),
        (CPU, "auto", client("app", None), None),
        (CPU, "tokens", client("app", None), "tokens"),
        (CPU, "iterations", client("app", None), "iterations"),
        (CPU, "iterations", client(layers=1), None),
        (WATCHED, "iterations", client("app", None), None),
    ],
)
def test_on_a_cpu_llama_cpp_may_and_an_application_where_it_is_allowed_to(
    monkeypatch: pytest.MonkeyPatch, facts: Any, asked: str, engine: Any, turns: str | None
) -> None:
    monkeypatch.setattr(free_memory, "free_memory", lambda: 1 << 50)
    assert turns_beside(facts, asked, engine) == turns


@pytest.mark.parametrize(
    ("facts", "asked", "engines", "layers", "turns"),
    [
        (CPU, "auto", ("llama_cpp", "llama_cpp"), 0, "tokens"),
        (CPU, "iterations", ("llama_cpp", "llama_cpp"), 0, "iterations"),
        (CPU, "processes", ("llama_cpp", "llama_cpp"), 0, None),
        (CPU, "auto", ("llama_cpp", "app"), 0, None),
        (CPU, "auto", ("llama_cpp", "llama_cpp"), 1, None),
        (WATCHED, "auto", ("llama_cpp", "llama_cpp"), 0, None),
    ],
)
def test_what_pairs_will_take_turns_by_is_known_before_they_start(
    facts: Any, asked: str, engines: tuple[str, str], layers: int, turns: str | None
) -> None:
    specs = [LaunchSpec(engine, {}) for engine in engines]
    assert expected_turns(facts, asked, specs, client(layers=layers).info) == turns


def test_nowhere_without_memory_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "free_memory", lambda: 0)
    assert not turns_beside(CPU, "iterations", client())
