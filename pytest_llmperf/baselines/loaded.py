"""What an engine had loaded when it was measured: layers, threads, build. Part of a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmperf.baselines.reader import Reader
    from pytest_llmperf.engine.info import EngineInfo


@dataclass(frozen=True)
class Loaded:
    """What an engine said of itself after loading; None or empty where it does not say.

    Attributes:
        layers_on_gpu: layers on any GPU, the output layer counted.
        total_layers: layers of the model, the output layer counted.
        placement: why not all of them are on a GPU, in words.
        threads, threads_batch: CPU threads that decode and prefill.
        build: what the engine was compiled with, as it prints it.
    """

    layers_on_gpu: int | None = None
    total_layers: int | None = None
    placement: str = ""
    threads: int | None = None
    threads_batch: int | None = None
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

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return dict(vars(self))


def read_loaded(root: Reader) -> Loaded | None:
    """Read a record's ``loaded``; None where it is null, or missing as in older files.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    if "loaded" not in root.mapping() or root["loaded"].is_null():
        return None
    item = root["loaded"]
    return Loaded(
        layers_on_gpu=item["layers_on_gpu"].optional_integer(),
        total_layers=item["total_layers"].optional_integer(),
        placement=item["placement"].text(),
        threads=item["threads"].optional_integer(),
        threads_batch=item["threads_batch"].optional_integer(),
        build=item["build"].text(),
    )
