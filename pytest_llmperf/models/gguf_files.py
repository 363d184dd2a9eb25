"""Reads blueprints from GGUF files, and writes such files, through the ``gguf`` package."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.gguf_reader import ReaderField, ReaderTensor

from pytest_llmperf.models.blocks import RandomWeights, tensor_bytes
from pytest_llmperf.models.blueprint import Blueprint, Tensor, Value
from pytest_llmperf.models.file_types import is_quantized, layer_of

_ARCHITECTURE = "general.architecture"
#: Keys about a single file: the reader's own, the parts of a split file, and the layout.
_NOT_METADATA = re.compile(r"GGUF\.|split\.|general\.(architecture|alignment)$")


class UnreadableModelError(Exception):
    """A model file can't be read; the message says why."""


def read_blueprint(files: Sequence[Path]) -> Blueprint:
    """Return the blueprint of a model; matrices are left random, everything else is copied.

    Args:
        files: all files of the model, in order.

    Raises:
        UnreadableModelError: a file is damaged, or of another byte order.
    """
    readers = [_reader(file) for file in files]
    fields = readers[0].fields
    try:
        metadata = {
            name: _value(field) for name, field in fields.items() if not _NOT_METADATA.match(name)
        }
        # An empty list can't be written, and means the same as none.
        metadata = {name: value for name, value in metadata.items() if value.value != []}
        architecture = str(fields[_ARCHITECTURE].contents())
    except (KeyError, ValueError, IndexError) as error:
        raise UnreadableModelError(f"{files[0]}: its metadata can't be read: {error}") from None
    tensors = [_tensor(tensor) for reader in readers for tensor in reader.tensors]
    return Blueprint(architecture, metadata, tensors)


def _reader(file: Path) -> GGUFReader:
    try:
        reader = GGUFReader(file)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        text = f"{file} can't be read as a GGUF file ({error}); was its download cut short?"
        raise UnreadableModelError(text) from None
    if reader.byte_order != "I":
        raise UnreadableModelError(f"{file} was made for processors of another byte order")
    return reader


def _value(field: ReaderField) -> Value:
    kind = field.types[0]
    if kind is GGUFValueType.ARRAY:
        items = field.types[-1]
        if items is GGUFValueType.STRING:
            # Bytes, since a token need not be text.
            return Value([bytes(field.parts[index]) for index in field.data], kind.name, items.name)
        return Value([] if items is kind else field.contents(), kind.name, items.name)
    value: Any = bytes(field.parts[-1]) if kind is GGUFValueType.STRING else field.contents()
    return Value(value, kind.name)


def _tensor(tensor: ReaderTensor) -> Tensor:
    made = Tensor(tensor.name, tuple(map(int, tensor.shape)), tensor.tensor_type.name)
    if is_quantized(made):
        return made
    return Tensor(made.name, made.shape, made.kind, tensor.data.tobytes())


def first_layers(blueprint: Blueprint, layers: int) -> Blueprint:
    """Return the blueprint with only the first of its layers."""
    key = f"{blueprint.architecture}.block_count"
    had = blueprint.number("block_count")
    metadata = dict(blueprint.metadata) | {key: Value.of(layers)}
    for name, value in metadata.items():
        of_layers = name.startswith(f"{blueprint.architecture}.") and value.kind == "ARRAY"
        if of_layers and len(value.value) == had:
            metadata[name] = Value(value.value[:layers], value.kind, value.items)
    tensors = [
        tensor
        for tensor in blueprint.tensors
        if (layer := layer_of(tensor.name)) is None or layer < layers
    ]
    return Blueprint(blueprint.architecture, metadata, tensors)


def write_blueprint(file: Path, blueprint: Blueprint, progress: Callable[[int, int], None]) -> None:
    """Write a model with random weights, a few MiB at a time.

    Args:
        file: to write.
        blueprint: its content.
        progress: called with the bytes written so far, and the total.

    Raises:
        OSError: as the system reports it; a part of the file may be left behind.
    """
    writer = GGUFWriter(file, blueprint.architecture)
    for key, value in blueprint.metadata.items():
        items = None if value.items is None else GGUFValueType[value.items]
        writer.add_key_value(key, value.value, GGUFValueType[value.kind], items)
    for tensor in blueprint.tensors:
        shape = tuple(reversed(tensor.shape))
        kind = GGMLQuantizationType[tensor.kind]
        size = tensor_bytes(tensor)
        # Any dtype but uint8 says that the shape counts values.
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), size, kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        output = writer.fout[0]
        writer.write_padding(output, output.tell())
        whole, done = sum(map(tensor_bytes, blueprint.tensors)), 0
        weights = RandomWeights()
        for tensor in blueprint.tensors:
            for piece in weights.content(tensor):
                output.write(piece)
                done += len(piece)
                progress(done, whole)
            writer.write_padding(output, tensor_bytes(tensor))
    finally:
        writer.close()
