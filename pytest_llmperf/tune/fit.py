"""Check whether settings fit into memory, estimated from the model's header without loading it.

The size of the KV cache follows llama.cpp's own formula: cells x layers x width of keys or values x
bytes of their type. The size of the compute buffers is estimated from above; a point that passes
but does not fit after all costs one failed load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.diagnosis.sizes import bytes_text

if TYPE_CHECKING:
    from pytest_llmperf.engine.gguf_header import GgufHeader
    from pytest_llmperf.engine.load_report import DeviceLoad
    from pytest_llmperf.session.setup import EngineSetup
    from pytest_llmperf.tune.result import Outcome

#: Bytes per element of the KV cache; for quantized types, bytes per block / elements per block.
#: Source: the block structures of ggml's ggml-common.h.
CACHE_BYTES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
#: Bytes of an engine process besides model, cache and buffers.
_PROCESS = 150 << 20
#: Rows of width ``n_embd`` that live at the same time while one layer is computed.
_ROWS = 6
_F32 = 4
#: llama.cpp rounds the number of cells up to a multiple of this.
_CELLS = 256


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a configuration needs, on the host and on the GPUs.

    Attributes:
        model, cache, compute: bytes of model, KV cache and compute buffers, wherever they are.
        on_gpu: share of the model's layers on GPUs.
        cache_on_host: whether the cache stays on the host although layers are on a GPU.
    """

    model: float
    cache: float
    compute: float
    on_gpu: float = 0.0
    cache_on_host: bool = False

    @property
    def gpu(self) -> float:
        """Bytes on GPUs."""
        if not self.on_gpu:
            return 0.0
        cache = 0.0 if self.cache_on_host else self.cache
        return self.on_gpu * (self.model + cache) + self.compute

    @property
    def host(self) -> float:
        """Bytes of system memory."""
        whole = self.model + self.cache + self.compute
        return whole - self.gpu + _PROCESS

    def __str__(self) -> str:
        """Return the bytes of the parts as text."""
        return (
            f"model {bytes_text(self.model)}, KV cache {bytes_text(self.cache)}, "
            f"computing {bytes_text(self.compute)}"
        )


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model that determine how much memory it needs.

    Attributes:
        file_bytes: size of its files.
        keys, values: width of a token's keys and values, by layer.
        heads: number of attention heads, the maximum over layers.
        width, inner: width of a token's state, and of a layer's feed-forward network.
        vocabulary: number of tokens in the vocabulary.
    """

    file_bytes: int
    keys: tuple[int, ...]
    values: tuple[int, ...]
    heads: int
    width: int
    inner: int
    vocabulary: int

    @property
    def layers(self) -> int:
        """Number of layers, without the output layer."""
        return len(self.keys)

    @classmethod
    def read(cls, files: Sequence[Path]) -> ModelShape | None:
        """Read a model's header; None if it can't be read or lacks a size."""
        from pytest_llmperf.engine.gguf_header import GgufError, read_gguf_header

        try:
            header = read_gguf_header(files[0])
            return cls._of(header, sum(file.stat().st_size for file in files))
        except (GgufError, AttributeError, OSError, IndexError, ZeroDivisionError):
            # Nothing is known before the load, then; the load reports what does not fit.
            return None

    @classmethod
    def _of(cls, header: GgufHeader, size: int) -> ModelShape:
        layers, width = header.number("block_count")[0], header.number("embedding_length")[0]
        heads = _by_layer(header.number("attention.head_count"), layers)
        own = header.number("attention.head_count_kv")
        kv_heads = _by_layer(own, layers) if own else heads
        plain = width // max(heads)
        key = next(iter(header.number("attention.key_length")), plain)
        value = next(iter(header.number("attention.value_length")), plain)
        rows = [tensor.rows for tensor in header.tensors if tensor.name == "token_embd.weight"]
        return cls(
            file_bytes=size,
            keys=tuple(count * key for count in kv_heads),
            values=tuple(count * value for count in kv_heads),
            heads=max(heads),
            width=width,
            inner=max(header.number("feed_forward_length") or (4 * width,)),
            vocabulary=max(rows, default=0),
        )

    def need(self, settings: Mapping[str, Any]) -> MemoryNeed:
        """Estimate the memory that resolved settings need."""
        cells = -(-int(settings["n_ctx"]) // _CELLS) * _CELLS
        cache = cells * (
            sum(self.keys) * CACHE_BYTES[settings.get("type_k") or "f16"]
            + sum(self.values) * CACHE_BYTES[settings.get("type_v") or "f16"]
        )
        batch = min(int(settings["n_ubatch"]), int(settings["n_batch"]), cells)
        row = self.vocabulary + _ROWS * self.width + 2 * self.inner
        if not settings.get("flash_attn"):
            # The scores of every head against all cells, before and after softmax.
            row += 2 * self.heads * cells
        gpu_layers = int(settings.get("n_gpu_layers", 0))
        whole = self.layers + 1
        on_gpu = 1.0 if gpu_layers < 0 else min(gpu_layers, whole) / whole
        return MemoryNeed(
            model=float(self.file_bytes),
            cache=cache,
            compute=float(batch * row * _F32 + cells * batch * _F32),
            on_gpu=on_gpu,
            cache_on_host=not settings.get("offload_kqv", True),
        )


def _by_layer(numbers: Sequence[int], layers: int) -> tuple[int, ...]:
    """Return one number per layer; a single number holds for all layers."""
    return tuple(numbers[:layers]) if len(numbers) > 1 else (numbers[0],) * layers


@dataclass(frozen=True)
class FreeMemory:
    """Memory that an engine may use.

    Attributes:
        host: free bytes of system memory before any engine runs.
        gpu: free bytes of all GPUs; None if no GPU reports them.
        limit: the configured maximum of host and GPU bytes; None: limited by free memory only.
    """

    host: float
    gpu: float | None = None
    limit: float | None = None

    @classmethod
    def measure(cls, devices: Sequence[DeviceLoad], limit: float | None = None) -> FreeMemory:
        """Read the free memory now, while no engine runs.

        Args:
            devices: from the load report of today's engine, before which the GPUs were free.
            limit: the configured maximum, bytes.
        """
        from pytest_llmperf.machine.free_memory import free_memory

        free = sum(device.free_bytes for device in devices if not device.is_host)
        return cls(free_memory(), free or None, limit)

    def why_not(self, need: MemoryNeed) -> str:
        """Return why a configuration does not fit; empty if it does."""
        if self.gpu is None:
            # Without a GPU, layers meant for a GPU stay on the host.
            need = MemoryNeed(need.model, need.cache, need.compute)
        if need.host > self.host:
            return (
                f"about {bytes_text(need.host)} of system memory needed ({need}), "
                f"{bytes_text(self.host)} free"
            )
        if self.gpu is not None and need.gpu > self.gpu:
            return (
                f"about {bytes_text(need.gpu)} of GPU memory needed ({need}), "
                f"{bytes_text(self.gpu)} free"
            )
        return ""

    def over_limit(self, used: float, what: str) -> str:
        """Return a message if memory in use exceeds ``tune.max_memory``; empty if it does not."""
        if self.limit is None or used <= self.limit:
            return ""
        return f"{what} {bytes_text(used)}, more than tune.max_memory ({bytes_text(self.limit)})"


class MemoryBounds:
    """Refuses configurations, before loading, that don't fit or exceed the allowed memory.

    Args:
        free: memory that an engine may use.
    """

    def __init__(self, free: FreeMemory) -> None:
        self.free = free
        self._shapes: dict[str, ModelShape | None] = {}

    def refused(self, setup: EngineSetup) -> tuple[Outcome, str] | None:
        """Return outcome and reason for a refused configuration; None if it may be loaded."""
        if setup.model is None:
            return None
        name = str(setup.model.first)
        if name not in self._shapes:
            self._shapes[name] = ModelShape.read(setup.model.parts)
        shape = self._shapes[name]
        if shape is None:
            return None
        need = shape.need(setup.llm.resolved())
        if why := self.free.why_not(need):
            return "does not fit", why
        if why := self.free.over_limit(need.host + need.gpu, "it needs about"):
            return "rejected", why
        return None
