"""Random weights in every type: valid blocks of a few MiB, repeated for tensors of any size.

The cost of a token depends on shapes and types, not on the weights' values. So all bits are random
except the scales, which give weights a standard deviation of one over the root of a row's length:
a matrix's output is then as large as its input, through any number of layers.
Source of the layouts: ``block_q4_0`` to ``block_iq4_xs`` of llama.cpp's ``ggml-common.h``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from pytest_llmperf.models.blueprint import Tensor

#: Primes: no row's length divides them, so that rows differ.
_BLOCKS = 65_521
_FLOATS = 1_048_573
#: Blocks from which a type's spread is estimated.
_PROBED = 2048


@dataclass(frozen=True)
class _Layout:
    """Positions of the parts of a block that can't be random.

    Attributes:
        scale: byte of its half-precision scale.
        minimum: byte of its half-precision minimum, if it has one.
        ratio: of the minimum to the scale, such that weights are centred at zero.
        fixed_bits: (first byte, byte after the last, bits kept, bits set) of the scales of parts of
            the block, so that they are alike and the block's own scale is no tiny number.
    """

    scale: int
    minimum: int | None = None
    ratio: float = 0.0
    fixed_bits: tuple[tuple[int, int, int, int], ...] = ()


#: Eight scales and eight minima of 6 bits each, in 12 bytes: all become 8 to 15, or 4 to 7.
_EIGHT_UP = ((4, 12, 0x0F, 0x08), (12, 16, 0xFF, 0x88))
_FOUR_UP = ((4, 12, 0x03, 0x04), (12, 16, 0x33, 0x44))
_LAYOUTS = {
    "Q4_0": _Layout(0),
    "Q4_1": _Layout(0, 2, -7.5),
    "Q5_0": _Layout(0),
    "Q5_1": _Layout(0, 2, -15.5),
    "Q8_0": _Layout(0),
    "IQ4_NL": _Layout(0),
    "IQ4_XS": _Layout(0, fixed_bits=((2, 4, 0x00, 0xAA), (4, 8, 0x00, 0x11))),
    "Q2_K": _Layout(80, 82, 1.5, ((0, 16, 0xFF, 0x88),)),
    "Q3_K": _Layout(108),
    "Q4_K": _Layout(0, 2, 7.5, _EIGHT_UP),
    "Q5_K": _Layout(0, 2, 15.5, _FOUR_UP),
    "Q6_K": _Layout(208, fixed_bits=((192, 208, 0x01, 0x02),)),
}
_FLOAT_TYPES = ("F32", "F16", "BF16")
#: The types that tensors of random weights can have.
RANDOM_TYPES = (*_LAYOUTS, *_FLOAT_TYPES)


def tensor_bytes(tensor: Tensor) -> int:
    """Return the size of a tensor in a file."""
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[tensor.kind]]
    return int(np.prod(tensor.shape, dtype=np.int64)) // values * size


class RandomWeights:
    """Random content for tensors, the same every time."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        self._pools: dict[str, _Blocks | _Floats] = {}

    def content(self, tensor: Tensor) -> Iterator[memoryview]:
        """Yield a tensor's bytes, a few MiB at a time; each is valid until the next is taken."""
        if tensor.data is not None:
            yield memoryview(tensor.data)
        elif len(tensor.shape) == 1 and tensor.kind == "F32":
            yield self._vector(tensor).data.cast("B")
        else:
            pool = self._pools.get(tensor.kind)
            if pool is None:
                kinds = _Floats if tensor.kind in _FLOAT_TYPES else _Blocks
                pool = self._pools[tensor.kind] = kinds(tensor.kind, self._rng)
            pool.scale_to(tensor.shape[0] ** -0.5)
            yield from pool.take(tensor_bytes(tensor))

    def _vector(self, tensor: Tensor) -> np.ndarray:
        """Return random norms near one, or random biases near zero."""
        centre = 0.0 if tensor.name.endswith("bias") else 1.0
        return self._rng.normal(centre, 0.1, tensor.shape).astype(np.float32)


class _Pool:
    """A ring of bytes from which one tensor after the other takes its content."""

    def __init__(self) -> None:
        self._bytes = memoryview(b"")
        self._at = 0

    def take(self, count: int) -> Iterator[memoryview]:
        while count:
            piece = self._bytes[self._at : self._at + count]
            yield piece
            count -= len(piece)
            self._at = (self._at + len(piece)) % len(self._bytes)


class _Blocks(_Pool):
    """Random blocks of a quantized type."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        super().__init__()
        self._layout = _LAYOUTS[kind]
        _, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        blocks = np.frombuffer(rng.bytes(_BLOCKS * size), np.uint8).reshape(_BLOCKS, size).copy()
        for first, end, kept, added in self._layout.fixed_bits:
            blocks[:, first:end] = blocks[:, first:end] & kept | added
        self._blocks = blocks
        self._bytes = memoryview(blocks.reshape(-1))
        self._set_scale(1.0)
        probe = dequantize(blocks[:_PROBED], GGMLQuantizationType[kind])
        self._spread = float(probe.std())

    def scale_to(self, spread: float) -> None:
        """Scale all weights to a standard deviation of ``spread``."""
        self._set_scale(spread / self._spread)

    def _set_scale(self, scale: float) -> None:
        layout = self._layout
        for place, value in ((layout.scale, scale), (layout.minimum, layout.ratio * scale)):
            if place is not None:
                half = np.frombuffer(np.float16(value).tobytes(), np.uint8)
                self._blocks[:, place : place + 2] = half


class _Floats(_Pool):
    """Normal random numbers."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        super().__init__()
        self._kind = kind
        self._values = rng.standard_normal(_FLOATS, np.float32)

    def scale_to(self, spread: float) -> None:
        """Scale all weights to a standard deviation of ``spread``."""
        scaled = self._values * np.float32(spread)
        if self._kind == "F16":
            scaled = scaled.astype(np.float16)
        elif self._kind == "BF16":
            # The upper half of a 32-bit float.
            scaled = (scaled.view(np.uint32) >> 16).astype(np.uint16)
        self._bytes = memoryview(scaled.view(np.uint8))
        self._at %= len(self._bytes)
