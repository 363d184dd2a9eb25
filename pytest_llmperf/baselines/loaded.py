"""The loaded state of a measured engine, as part of a record: layers, threads, build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.stored_json import Stored, Whole

if TYPE_CHECKING:
    from pytest_llmperf.engine.info import EngineInfo


@dataclass(frozen=True)
class Loaded(Stored):
    """Layers, threads and build that an engine reported; None or empty if it did not.

    Attributes:
        layers_on_gpu: layers on any GPU, the output layer counted.
        total_layers: layers of the model, the output layer counted.
        placement: why not all of them are on a GPU, in words.
        threads, threads_batch: CPU threads that decode and prefill.
        build: compile options, as the engine prints them.
    """

    layers_on_gpu: Whole | None = None
    total_layers: Whole | None = None
    placement: str = ""
    threads: Whole | None = None
    threads_batch: Whole | None = None
    build: str = ""

    @classmethod
    def of(cls, info: EngineInfo) -> Loaded:
        """Take the recorded part of an engine's report."""
        gpu = info.gpu
        return cls(
            layers_on_gpu=None if gpu is None else gpu.layers_on_gpu,
            total_layers=None if gpu is None else gpu.total_layers,
            placement="" if gpu is None else gpu.explain(),
            threads=info.n_threads or None,
            threads_batch=info.n_threads_batch or None,
            build=info.build_flags.strip(),
        )
