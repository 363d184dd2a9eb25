"""What an engine had loaded when it was measured: layers, threads, build. Part of a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.stored_json import Stored, Whole

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo


@dataclass(frozen=True)
class Loaded(Stored):
    """What an engine said of itself after loading; None or empty where it does not say.

    Attributes:
        layers_on_gpu: layers on any GPU, the output layer counted.
        total_layers: layers of the model, the output layer counted.
        placement: why not all of them are on a GPU, in words.
        threads, threads_batch: CPU threads that decode and prefill.
        build: what the engine was compiled with, as it prints it.
    """

    layers_on_gpu: Whole | None = None
    total_layers: Whole | None = None
    placement: str = ""
    threads: Whole | None = None
    threads_batch: Whole | None = None
    build: str = ""

    @classmethod
    def of(cls, info: EngineInfo) -> Loaded:
        """Take what a record keeps of an engine's own words."""
        gpu = info.gpu
        return cls(
            layers_on_gpu=None if gpu is None else gpu.layers_on_gpu,
            total_layers=None if gpu is None else gpu.total_layers,
            placement="" if gpu is None else gpu.explain(),
            threads=info.n_threads or None,
            threads_batch=info.n_threads_batch or None,
            build=info.build_flags.strip(),
        )
