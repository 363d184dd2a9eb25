"""Bytes that one decode step reads from memory: the weights it uses and the caches.

At batch size 1 every weight in use is read once per token, whatever the
quantization, and so is the cache of every earlier position. Memory
bandwidth limits this; see docs/roofline.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf.engine.load_report import assigned_layers, device_of_buffer

if TYPE_CHECKING:
    from pytest_llmperf.engine.gguf_header import GgufHeader, GgufTensor

#: Maps a layer to the share of its experts that a token goes through.
_Share = Callable[[int], float]

_MIB = 1024 * 1024
_BLOCK = re.compile(r"blk\.(\d+)\.")
#: Tensors with one row per token, of which llama.cpp only looks rows up (GGML_OP_GET_ROWS of the
#: input layer, src/llama-arch.cpp).
_LOOKED_UP = ("token_embd.weight", "position_embd.weight", "per_layer_token_embd.weight")
#: The input layer stays on the host whatever is offloaded (src/llama-model.cpp, ``dev_input``).
_INPUT = ("token_embd_norm.",)
#: Never evaluated while text is generated: heads of classifiers and of embedding models, token
#: types (encoders only), vision and audio towers and the tensors that connect them to the model.
_UNUSED = ("token_types.", "cls.", "dense_2.", "dense_3.", "v.", "a.", "mm.", "nextn.")
_EXPERTS = re.compile(r"_(?:ch)?exps\.")

_CACHE_BUFFER = re.compile(r"(\S+)\s+(KV|RS) buffer size\s*=\s*([\d.]+) MiB")
_CACHE = re.compile(r": size =\s+[\d.]+ MiB \(\s*(\d+) cells,")
_WINDOW = re.compile(r"n_swa\s+= (\d+)")
_WINDOWED = re.compile(r"creating\s+SWA KV cache")
_PLAIN = re.compile(r"creating (?:non-SWA|main) KV cache")
_SPARSE = re.compile(r"creating (?:indexer|DSV4)")


@dataclass(frozen=True)
class CacheReads:
    """One device's part of one cache.

    Attributes:
        device: the device it is on; the host is called ``CPU``.
        size: bytes of all its cells.
        cells: positions it holds; 0 for the state of a recurrent layer, which is read whole.
        window: positions a layer looks back, where that is fewer than all; else 0.
    """

    device: str
    size: int
    cells: int
    window: int = 0

    def bytes_at(self, depth: int) -> float:
        """Return the bytes that a step at ``depth`` positions reads."""
        if not self.cells:
            return float(self.size)
        return self.size / self.cells * min(depth, self.window or depth, self.cells)


@dataclass(frozen=True)
class ModelReads:
    """Bytes that a decode step reads, by device.

    Attributes:
        weights: bytes by device; the host is called ``CPU``.
        caches: every cache's part on every device.
        model_bytes: of all weights, read or not.
        problem: why the bytes aren't known, as a sentence; "" if they are.
    """

    weights: dict[str, int] = field(default_factory=dict)
    caches: tuple[CacheReads, ...] = ()
    model_bytes: int = 0
    problem: str = ""

    def bytes_at(self, depth: int) -> dict[str, float]:
        """Return the bytes, by device, that a step at ``depth`` positions (its own too) reads."""
        sizes: dict[str, float] = {name: float(size) for name, size in self.weights.items()}
        for cache in self.caches:
            sizes[cache.device] = sizes.get(cache.device, 0.0) + cache.bytes_at(depth)
        return sizes

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> ModelReads:
        """Rebuild from ``to_wire``'s output."""
        return cls(**{**data, "caches": tuple(CacheReads(**part) for part in data["caches"])})


class _UnknownError(Exception):
    """The bytes a step reads can't be determined; str() is why."""


def read_model_reads(
    path: Path, lines: Iterable[str], n_layer: int, config: Mapping[str, Any]
) -> ModelReads:
    """Work out the bytes that a decode step of a loaded model reads; set ``problem`` on failure.

    Args:
        path: the GGUF file; the first one of a split model.
        lines: llama.cpp's log of the load.
        n_layer: layers that are evaluated, without the output layer.
        config: the ``llm`` section it was loaded with; ``kv_overrides`` in its ``extra`` replace
            metadata.
    """
    from pytest_llmperf.engine.gguf_header import GgufError, read_gguf_header

    lines = list(lines)
    try:
        header = read_gguf_header(path)
        if any(tensor.name.startswith("enc.") for tensor in header.tensors):
            raise _UnknownError("this model has an encoder, whose part in a step is not counted")
        share = _expert_shares(header, config.get("extra", {}).get("kv_overrides") or {})
        devices = assigned_layers(lines)
        if config.get("split_mode") == "row" and len({*devices.values()} - {"CPU"}) > 1:
            raise _UnknownError("with split_mode: row every layer is read by several GPUs at once")
        # Layers that predict further tokens ahead (nextn, MTP) are no part of plain decoding;
        # some versions of llama.cpp count them among its layers.
        ahead = sum(header.number("nextn_predict_layers"))
        layers = min([n_layer, *(blocks - ahead for blocks in header.number("block_count"))])
        weights: dict[str, float] = {}
        tied = all(tensor.name != "output.weight" for tensor in header.tensors)
        for tensor in header.tensors:
            for device, size in _reads_of(tensor, devices, layers, tied=tied, share=share):
                weights[device] = weights.get(device, 0.0) + size
        return ModelReads(
            {name: round(size) for name, size in weights.items()},
            tuple(_caches(lines)),
            sum(tensor.size for tensor in header.tensors),
        )
    except (GgufError, _UnknownError) as error:
        return ModelReads(problem=str(error))
    except (AttributeError, OSError) as error:
        # The load worked, but a newer or older package may lack these functions.
        return ModelReads(problem=f"the installed ggml does not list a file's tensors: {error}")


def _reads_of(
    tensor: GgufTensor, devices: Mapping[int, str], n_layer: int, *, tied: bool, share: _Share
) -> Iterator[tuple[str, float]]:
    """Yield the (device, bytes) pairs that a step reads of one tensor; none if it is unused."""
    name, output = tensor.name, devices.get(max(devices, default=0), "CPU")
    if name.startswith(_UNUSED):
        return
    if name in _LOOKED_UP:
        yield "CPU", tensor.size / tensor.rows
        if name == "token_embd.weight" and tied:
            # The output matrix is the same tensor, or a copy of it if it is offloaded.
            yield output, tensor.size
        return
    if name.startswith(_INPUT):
        yield "CPU", tensor.size
        return
    block = _BLOCK.match(name)
    if block is None:
        yield output, tensor.size
    elif (layer := int(block[1])) < n_layer:
        used = share(layer) if _EXPERTS.search(name) else 1.0
        yield devices.get(layer, "CPU"), tensor.size * used


def _expert_shares(header: GgufHeader, overrides: Mapping[str, Any]) -> _Share:
    """Return a function from a layer to the share of its experts that a token goes through."""

    def numbers(key: str) -> tuple[int, ...]:
        replaced = overrides.get(f"{header.architecture}.{key}")
        return header.number(key) if replaced is None else (int(replaced),)

    used, count = numbers("expert_used_count"), numbers("expert_count")

    def share(layer: int) -> float:
        if not used or not count or not max(count):
            raise _UnknownError(
                "this model has experts and does not say how many of them a token uses "
                f"({header.architecture}.expert_used_count)"
            )
        return used[min(layer, len(used) - 1)] / count[min(layer, len(count) - 1)]

    return share


def _caches(lines: Iterable[str]) -> Iterator[CacheReads]:
    """Read the caches from llama.cpp's report: the buffers of each, then a line that ends it."""
    parts: list[CacheReads] = []
    window = n_swa = 0
    for line in lines:
        if _SPARSE.search(line):
            raise _UnknownError(
                "this model looks at a part of its cache only (sparse attention), whose size "
                "llama.cpp does not report"
            )
        if match := _WINDOW.search(line):
            n_swa = int(match[1])
        elif _WINDOWED.search(line):
            window = n_swa
        elif _PLAIN.search(line):
            window = 0
        elif match := _CACHE_BUFFER.search(line):
            size = round(float(match[3]) * _MIB)
            window = 0 if match[2] == "RS" else window
            parts.append(
                CacheReads(device_of_buffer(match[1]), size, int(match[2] == "KV"), window)
            )
        elif match := _CACHE.search(line):
            for part in parts:
                cells = int(match[1])
                # A recurrent cache has one cell per sequence; only one of them is read.
                yield (
                    replace(part, cells=cells)
                    if part.cells
                    else replace(part, size=part.size // max(cells, 1))
                )
            parts = []
