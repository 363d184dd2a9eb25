"""Whether a second engine's process may live beside one that is running."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.engine.load_report import DeviceLoad, GpuStatus, GpuUtilization
from pytest_llmperf.engine_kinds import engine_kind
from pytest_llmperf.machine import free_memory
from pytest_llmperf.machine.free_memory import has_room_beside
from pytest_llmperf.session.measuring import expected_turns, possible_turns


@pytest.mark.parametrize(
    ("times", "spare", "fits"), [(2.0, 600 << 20, True), (1.0, 400 << 20, False), (0.0, 0, False)]
)
def test_it_fits_where_as_much_is_free_once_more_and_some_to_spare(
    monkeypatch: pytest.MonkeyPatch, times: float, spare: int, fits: bool
) -> None:
    me = psutil.Process()
    held = sum(process.memory_info().rss for process in (me, *me.children(recursive=True)))
    monkeypatch.setattr(free_memory, "free_memory", lambda: int(times * held) + spare)
    assert has_room_beside([os.getpid()]) is fits


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    assert not has_room_beside([2**22 + 1])


GIB = 1 << 30


def client(engine: str = "llama_cpp", layers: int | None = 0, free: int = 0) -> Any:
    gpu = None
    if layers is not None:
        card = DeviceLoad("Vulkan0", "", layers, GIB, free_bytes=free)
        gpu = GpuUtilization(GpuStatus.AS_ASKED, layers, 31, layers, (card,))
    info = SimpleNamespace(engine=engine, gpu=gpu)
    return SimpleNamespace(info=info, kind=engine_kind(engine), processes=[os.getpid()])


CPU: Any = SimpleNamespace(telemetry=None)


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
        (CPU, "auto", client(layers=1, free=3 * GIB), "tokens"),
        (CPU, "auto", client(layers=1, free=2 * GIB), None),
        (CPU, "iterations", client(layers=1, free=2 * GIB), None),
    ],
)
def test_llama_cpp_may_where_there_is_room_and_an_application_where_it_is_allowed_to(
    monkeypatch: pytest.MonkeyPatch, facts: Any, asked: str, engine: Any, turns: str | None
) -> None:
    monkeypatch.setattr(free_memory, "free_memory", lambda: 1 << 50)
    assert possible_turns(facts, asked, engine) == turns


@pytest.mark.parametrize(
    ("asked", "engines", "layers", "turns"),
    [
        ("auto", ("llama_cpp", "llama_cpp"), 0, "tokens"),
        ("iterations", ("llama_cpp", "llama_cpp"), 0, "iterations"),
        ("processes", ("llama_cpp", "llama_cpp"), 0, None),
        ("auto", ("llama_cpp", "app"), 0, None),
        ("auto", ("llama_cpp", "llama_cpp"), 1, None),
    ],
)
def test_what_pairs_will_take_turns_by_is_known_before_they_start(
    asked: str, engines: tuple[str, str], layers: int, turns: str | None
) -> None:
    specs = [LaunchSpec(engine, {}) for engine in engines]
    assert expected_turns(asked, specs, [client().info, client(layers=layers).info]) == turns


def test_nowhere_without_memory_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "free_memory", lambda: 0)
    assert not possible_turns(CPU, "iterations", client())
