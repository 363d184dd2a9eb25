"""Makes a GGUF file of any size with random weights: as fast as a real model of that shape.

    python benchmarks/large_model.py large.gguf [--layers 32] [--width 4096] [--inner 14336]

What a token costs depends on shapes and types, and not on what the weights say, so this is
for measuring where no large model can be had. The default has the shape of a model of seven
billion parameters, in Q4_0 (4 GB). Vocabulary and chat template are the embedded model's.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from fidelity import embedded_model

#: Of enum gguf_type, by what a value takes. Source: llama.cpp's ggml/include/gguf.h.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY = 4, 8, 9
#: Of enum ggml_type, and of enum llama_ftype.
_F32, _Q4_0 = 0, 2
_MOSTLY_Q4_0 = 2
#: Values and bytes of a block of Q4_0: a half-precision scale, then 32 values of 4 bits.
_BLOCK, _BLOCK_BYTES = 32, 18
_ALIGNMENT = 32
_HEAD = 128

Tensor = tuple[str, tuple[int, ...], int]


def key_values(file: BinaryIO, count: int) -> Iterator[tuple[str, bytes]]:
    """Read the header's entries: each key, with the bytes of its type and value."""
    for _ in range(count):
        (length,) = struct.unpack("<Q", file.read(8))
        key = file.read(length).decode()
        at = file.tell()
        (kind,) = struct.unpack("<I", file.read(4))
        skip_value(file, kind)
        end = file.tell()
        file.seek(at)
        yield key, file.read(end - at)


def skip_value(file: BinaryIO, kind: int) -> None:
    """Read past a value of a type."""
    if kind == _STRING:
        file.seek(struct.unpack("<Q", file.read(8))[0], 1)
    elif kind == _ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner in _SIZES:
            file.seek(_SIZES[inner] * count, 1)
        else:
            for _ in range(count):
                skip_value(file, inner)
    else:
        file.seek(_SIZES[kind], 1)


def tensors(layers: int, width: int, inner: int, cache: int, words: int) -> list[Tensor]:
    """Name a model's tensors, with their shapes and types; the output layer is the input's."""
    found: list[Tensor] = [
        ("token_embd.weight", (width, words), _Q4_0),
        ("output_norm.weight", (width,), _F32),
    ]
    for layer in range(layers):
        shapes = {
            "attn_q": (width, width),
            "attn_k": (width, cache),
            "attn_v": (width, cache),
            "attn_output": (width, width),
            "ffn_gate": (width, inner),
            "ffn_up": (width, inner),
            "ffn_down": (inner, width),
        }
        found += [(f"blk.{layer}.{name}.weight", shape, _Q4_0) for name, shape in shapes.items()]
        found += [
            (f"blk.{layer}.{name}.weight", (width,), _F32) for name in ("attn_norm", "ffn_norm")
        ]
    return found


def size_of(shape: tuple[int, ...], kind: int) -> int:
    """Return the bytes of a tensor."""
    values = int(np.prod(shape))
    return values * 4 if kind == _F32 else values // _BLOCK * _BLOCK_BYTES


def content(shape: tuple[int, ...], kind: int, order: np.random.Generator) -> bytes:
    """Return random weights, small enough to stay finite; norms are ones."""
    if kind == _F32:
        return bytes(np.ones(shape, np.float32))
    blocks = np.frombuffer(order.bytes(size_of(shape, kind)), np.uint8).reshape(-1, _BLOCK_BYTES)
    blocks = blocks.copy()
    scale = np.float16(1 / (4 * np.sqrt(shape[0])))
    blocks[:, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return bytes(blocks)


def write(target: Path, layers: int, width: int, inner: int) -> None:
    """Write the model."""
    heads, groups = width // _HEAD, width // _HEAD // 4
    with embedded_model().open("rb") as file:
        magic, version, _, count = struct.unpack("<4sIQQ", file.read(24))
        read = dict(key_values(file, count))
    # What else the file says of itself is true of the embedded model only.
    entries = {key: value for key, value in read.items() if not key.startswith("general.")}
    entries["general.architecture"] = read["general.architecture"]
    numbers = {
        "llama.block_count": layers,
        "llama.embedding_length": width,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": groups,
        "llama.rope.dimension_count": _HEAD,
        "llama.attention.key_length": _HEAD,
        "llama.attention.value_length": _HEAD,
        "general.file_type": _MOSTLY_Q4_0,
    }
    entries |= {key: struct.pack("<II", _UINT32, value) for key, value in numbers.items()}
    name = target.stem.encode()
    entries["general.name"] = struct.pack("<IQ", _STRING, len(name)) + name
    (words,) = struct.unpack("<Q", entries["tokenizer.ggml.tokens"][8:16])
    listed = tensors(layers, width, inner, groups * _HEAD, words)
    header = struct.pack("<4sIQQ", magic, version, len(listed), len(entries))
    for key, value in entries.items():
        header += struct.pack("<Q", len(key)) + key.encode() + value
    offset = 0
    for tensor, shape, kind in listed:
        header += struct.pack("<Q", len(tensor)) + tensor.encode()
        header += struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += -(-size_of(shape, kind) // _ALIGNMENT) * _ALIGNMENT
    order = np.random.default_rng(1)
    # Layers share their weights: nothing reads them as one.
    made: dict[tuple[tuple[int, ...], int], bytes] = {}
    with target.open("wb") as file:
        file.write(header)
        for _, shape, kind in listed:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            if (shape, kind) not in made:
                made[shape, kind] = content(shape, kind, order)
            file.write(made[shape, kind])


def main() -> None:
    """Parse the command line, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096, help="a multiple of 512")
    parser.add_argument("--inner", type=int, default=14336, help="a multiple of 32")
    arguments = parser.parse_args()
    shape = (arguments.layers, arguments.width, arguments.inner)
    if min(shape) < 1 or arguments.width % 512 or arguments.inner % _BLOCK:
        parser.error("--layers: at least 1; --width: a multiple of 512; --inner: of 32")
    write(arguments.file, *shape)
    print(f"{arguments.file}: {arguments.file.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
