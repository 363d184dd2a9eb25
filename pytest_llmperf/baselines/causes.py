"""What the commit or the configuration did to the engine since a baseline: judged, and named.

Layers on the GPU, the backend, thread counts and the build. Findings, so that they have names
and evidence, but never ``invalid`` ones: a slowdown from these is a slowdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.baselines.loaded import Loaded
from pytest_llmperf.engine_kinds import UNKNOWN_BACKEND
from pytest_llmperf.machine.fitness import FitnessFinding

#: Settings that the findings name already, so that no list of differences need repeat them.
NAMED_SETTINGS = {
    "other_layers": ("llm.n_gpu_layers",),
    "other_threads": ("llm.n_threads", "llm.n_threads_batch"),
}
_THREADS = ("n_threads", "n_threads_batch")


@dataclass(frozen=True)
class EngineState:
    """One side of a comparison.

    Attributes:
        backend: ``cpu``, ``cuda``, ...; empty where it is not known.
        config: the resolved engine settings.
        loaded: what the engine had loaded; None where a record does not say.
        name: what a sentence calls it, such as ``the baseline``.
    """

    backend: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    loaded: Loaded | None = None
    name: str = "the baseline"


def causes(here: EngineState, there: EngineState) -> list[FitnessFinding]:
    """Return what differs from ``there`` that decides speed, the most telling first."""
    return [
        *_backend(here, there),
        *_layers(here, there),
        *_threads(here, there),
        *_build(here, there),
    ]


def beyond_cores(config: Mapping[str, Any], cores: int) -> list[FitnessFinding]:
    """Return that more threads are configured than cores can be used; [] where it is not so."""
    over = {key: config[key] for key in _THREADS if _is_more(config.get(key), cores)}
    if not over:
        return []
    asked = " and ".join(f"{key} {value}" for key, value in over.items())
    usable = "1 usable core" if cores == 1 else f"{cores} usable cores"
    text = f"{asked} on {usable}: threads that wait for each other are very slow"
    return [_finding("threads_beyond_cores", text, **over, usable_cores=cores)]


def _backend(here: EngineState, there: EngineState) -> Iterator[FitnessFinding]:
    both = {here.backend, there.backend}
    # What an application computes on is its own business.
    if len(both) == 1 or both & {"", UNKNOWN_BACKEND}:
        return
    text = f"the engine runs on {here.backend}, {there.name} ran on {there.backend}"
    if here.backend == "cpu":
        text = f"CPU-only build; {there.name} ran on {there.backend}"
    yield _finding("other_backend", text, backend=here.backend, baseline_backend=there.backend)


def _layers(here: EngineState, there: EngineState) -> Iterator[FitnessFinding]:
    asked, asked_there = (side.config.get("n_gpu_layers") for side in (here, there))
    setting = None not in (asked, asked_there) and asked != asked_there
    change = f"llm.n_gpu_layers {asked_there} → {asked}"
    mine, theirs = here.loaded, there.loaded
    evidence = {"n_gpu_layers": asked, "baseline_n_gpu_layers": asked_there}
    if mine is None or mine.layers_on_gpu is None:
        return
    if theirs is None or theirs.layers_on_gpu is None:
        # An older record: only the setting is known, which a CPU-only build does not heed.
        if setting and here.backend != "cpu":
            text = f"{mine.layers_on_gpu} of {mine.total_layers} layers on the GPU: {change}"
            yield _finding("other_layers", text, layers_on_gpu=mine.layers_on_gpu, **evidence)
        return
    if mine.layers_on_gpu == theirs.layers_on_gpu:
        return
    why = change if setting else mine.placement
    yield _finding(
        "other_layers",
        f"{mine.layers_on_gpu} of {mine.total_layers} layers on the GPU, {there.name} had "
        f"{theirs.layers_on_gpu}: {why}",
        layers_on_gpu=mine.layers_on_gpu,
        total_layers=mine.total_layers,
        baseline_layers_on_gpu=theirs.layers_on_gpu,
        **evidence,
    )


def _threads(here: EngineState, there: EngineState) -> Iterator[FitnessFinding]:
    pairs = {key: (there.config.get(key), here.config.get(key)) for key in _THREADS}
    changed = {k: (a, b) for k, (a, b) in pairs.items() if None not in (a, b) and a != b}
    if changed:
        text = ", ".join(f"llm.{key} {old} → {new}" for key, (old, new) in changed.items())
        evidence = {key: new for key, (_, new) in changed.items()}
        evidence |= {f"baseline_{key}": old for key, (old, _) in changed.items()}
        yield _finding("other_threads", text, **evidence)


def _build(here: EngineState, there: EngineState) -> Iterator[FitnessFinding]:
    if here.loaded is None or there.loaded is None:
        return
    mine, theirs = build_flags(here.loaded.build), build_flags(there.loaded.build)
    if not mine or not theirs:
        return
    changed = {
        flag: (theirs.get(flag), mine.get(flag))
        for flag in dict.fromkeys([*theirs, *mine])
        if theirs.get(flag) != mine.get(flag)
    }
    if changed:
        told = ", ".join(
            f"{flag} {old or 'absent'} → {new or 'absent'}" for flag, (old, new) in changed.items()
        )
        yield _finding(
            "other_build",
            f"the engine is built otherwise than {there.name}'s: {told}",
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
