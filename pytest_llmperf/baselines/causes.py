"""Causes of a slowdown in the engine: changes that the commit or the configuration made.

They are layers on the GPU, the backend, thread counts and the build. They are fitness findings,
so they have names and evidence, but never ``invalid``: the slowdown they cause is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.baselines.record import Loaded
from pytest_llmperf.engine_kinds import UNKNOWN_BACKEND
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.text import count

#: Settings that each finding names, so that a list of differences does not repeat them.
NAMED_SETTINGS = {
    "other_layers": ("llm.n_gpu_layers",),
    "other_threads": ("llm.n_threads", "llm.n_threads_batch"),
}
_THREADS = ("n_threads", "n_threads_batch")


@dataclass(frozen=True)
class EngineState:
    """Settings and loaded state of the engine on one side of a comparison.

    Attributes:
        backend: ``cpu``, ``cuda``, ...; empty where it is not known.
        config: the resolved engine settings.
        loaded: what the engine had loaded; None where a record does not say.
        name: the side's name in a sentence, such as ``the baseline``.
    """

    backend: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    loaded: Loaded | None = None
    name: str = "the baseline"


def causes(current: EngineState, baseline: EngineState) -> list[FitnessFinding]:
    """Return the differences from ``baseline`` that affect speed, the most important first."""
    return [
        *_backend(current, baseline),
        *_layers(current, baseline),
        *_threads(current, baseline),
        *_build(current, baseline),
    ]


def beyond_cores(config: Mapping[str, Any], cores: int) -> list[FitnessFinding]:
    """Find thread settings above the number of usable cores; [] if there are none."""
    over = {key: config[key] for key in _THREADS if _is_more(config.get(key), cores)}
    if not over:
        return []
    asked = " and ".join(f"{key} {value}" for key, value in over.items())
    usable = count(cores, "usable core")
    text = f"{asked} on {usable}: threads that wait for each other are very slow"
    return [_finding("threads_beyond_cores", text, **over, usable_cores=cores)]


def _backend(current: EngineState, baseline: EngineState) -> Iterator[FitnessFinding]:
    both = {current.backend, baseline.backend}
    # An application's backend is unknown.
    if len(both) == 1 or both & {"", UNKNOWN_BACKEND}:
        return
    text = f"the engine runs on {current.backend}, {baseline.name} ran on {baseline.backend}"
    if current.backend == "cpu":
        text = f"CPU-only build; {baseline.name} ran on {baseline.backend}"
    evidence = {"backend": current.backend, "baseline_backend": baseline.backend}
    yield _finding("other_backend", text, **evidence)


def _layers(current: EngineState, baseline: EngineState) -> Iterator[FitnessFinding]:
    asked, asked_before = (side.config.get("n_gpu_layers") for side in (current, baseline))
    setting = None not in (asked, asked_before) and asked != asked_before
    now, before = current.loaded, baseline.loaded
    if now is None or now.layers_on_gpu is None:
        return
    if before is None or before.layers_on_gpu in (None, now.layers_on_gpu):
        return
    why = f"llm.n_gpu_layers {asked_before} → {asked}" if setting else now.placement
    yield _finding(
        "other_layers",
        f"{now.layers_on_gpu} of {now.total_layers} layers on the GPU, {baseline.name} had "
        f"{before.layers_on_gpu}: {why}",
        layers_on_gpu=now.layers_on_gpu,
        total_layers=now.total_layers,
        baseline_layers_on_gpu=before.layers_on_gpu,
        n_gpu_layers=asked,
        baseline_n_gpu_layers=asked_before,
    )


def _threads(current: EngineState, baseline: EngineState) -> Iterator[FitnessFinding]:
    pairs = {key: (baseline.config.get(key), current.config.get(key)) for key in _THREADS}
    changed = {k: (a, b) for k, (a, b) in pairs.items() if None not in (a, b) and a != b}
    if changed:
        text = ", ".join(f"llm.{key} {old} → {new}" for key, (old, new) in changed.items())
        evidence = {key: new for key, (_, new) in changed.items()}
        evidence |= {f"baseline_{key}": old for key, (old, _) in changed.items()}
        yield _finding("other_threads", text, **evidence)


def _build(current: EngineState, baseline: EngineState) -> Iterator[FitnessFinding]:
    if current.loaded is None or baseline.loaded is None:
        return
    now, before = build_flags(current.loaded.build), build_flags(baseline.loaded.build)
    if not now or not before:
        return
    changed = {
        flag: (before.get(flag), now.get(flag))
        for flag in dict.fromkeys([*before, *now])
        if before.get(flag) != now.get(flag)
    }
    if changed:
        changes = ", ".join(
            f"{flag} {old or 'absent'} → {new or 'absent'}" for flag, (old, new) in changed.items()
        )
        yield _finding(
            "other_build",
            f"the engine's build differs from {baseline.name}'s: {changes}",
            flags={flag: new for flag, (_, new) in changed.items()},
            baseline_flags={flag: old for flag, (old, _) in changed.items()},
        )


def build_flags(text: str) -> dict[str, str]:
    """Read llama.cpp's system info, ``CPU : AVX2 = 1 | FMA = 1 | CUDA : ARCHS = 890 |``."""
    flags: dict[str, str] = {}
    group = ""
    for part in text.split("|"):
        named = re.match(r"\s*([\w.-]+)\s*:\s*(?=\S+\s*=)", part)
        if named:
            group = named[1]
        name, equals, value = part[named.end() if named else 0 :].partition("=")
        if equals:
            flags[f"{group} {name.strip()}".strip()] = value.strip()
    return flags


def _is_more(value: object, cores: int) -> bool:
    return isinstance(value, int) and value > cores


def _finding(name: str, text: str, **evidence: Any) -> FitnessFinding:
    return FitnessFinding(name, "warn", text, evidence)
