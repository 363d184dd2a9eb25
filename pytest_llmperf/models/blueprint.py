"""The content of a model file: metadata, and tensors with their shapes and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model file.

    Attributes:
        name: such as ``blk.0.attn_q.weight``.
        shape: inputs first, then outputs, then experts.
        kind: its type, such as ``Q4_K``.
        data: its bytes; None for random ones.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "F32"
    data: bytes | None = None

    def of_type(self, kind: str) -> Tensor:
        """Return the same tensor in another type."""
        return replace(self, kind=kind)


@dataclass(frozen=True)
class Value:
    """A value of a file's metadata.

    Attributes:
        value: a number, flag or text (bytes, too), or a list of such.
        kind: of enum gguf_type, such as ``UINT32``.
        items: the type of a list's items, or None.
    """

    value: Any
    kind: str
    items: str | None = None

    @classmethod
    def of(cls, value: Any) -> Value:
        """Return a value with the type that model files usually give it."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            return cls(value, "ARRAY", _KINDS[type(value[0])])
        return cls(value, _KINDS[type(value)])


_KINDS: Mapping[type, str] = {bool: "BOOL", int: "UINT32", float: "FLOAT32", str: "STRING"}


@dataclass(frozen=True)
class Blueprint:
    """A model file before it is written.

    Attributes:
        architecture: such as ``llama``.
        metadata: by key, without ``general.architecture``.
        tensors: in the order of the file.
    """

    architecture: str
    metadata: Mapping[str, Value]
    tensors: Sequence[Tensor]

    def number(self, key: str, default: int = 0) -> int:
        """Return the architecture's own number ``key``; the largest if there is one per layer."""
        entry = self.metadata.get(f"{self.architecture}.{key}")
        if entry is None:
            return default
        return int(max(entry.value) if entry.kind == "ARRAY" else entry.value)
