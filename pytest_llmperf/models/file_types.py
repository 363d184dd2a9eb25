"""The quantizations of whole files, and the type that each gives a tensor.

A ``Q4_K_M`` file holds several types: most matrices are Q4_K, those that lose most by it Q6_K.
Source: ``llama_tensor_get_type`` of llama.cpp's ``llama-quant.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llmperf.models.blueprint import Tensor

#: (layer, number of layers) -> whether the layer's tensor gets the better type.
_Rule = Callable[[int, int], bool]


def _always(_layer: int, _layers: int) -> bool:
    return True


def _first_eighth(layer: int, layers: int) -> bool:
    return layer < layers // 8


def _more_bits(layer: int, layers: int) -> bool:
    """Whether a layer is in the first or last eighth, or every third one between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _below(limit: int) -> _Rule:
    return lambda layer, _layers: layer < limit


@dataclass(frozen=True)
class FileType:
    """A quantization of a whole file.

    Attributes:
        number: of enum llama_ftype.
        default: type of its matrices.
        bits: average bits of a weight, for estimates of a file's size.
        upgrades: by kind of tensor, better types with their rules; the first that applies counts.
        grouped: type of ``attn_v`` if 4 or more heads share it.
    """

    number: int
    default: str
    bits: float
    upgrades: Mapping[str, Sequence[tuple[str, _Rule]]] = field(default_factory=dict)
    grouped: str = ""


_V, _DOWN, _OUT = "attn_v", "ffn_down", "attn_output"
_MEDIUM = {_V: [("Q6_K", _more_bits)], _DOWN: [("Q6_K", _more_bits)]}

#: By name, from few bits to many.
FILE_TYPES: Mapping[str, FileType] = {
    "Q2_K": FileType(
        10,
        "Q2_K",
        3.2,
        {_V: [("Q3_K", _always)], _DOWN: [("Q3_K", _always)], _OUT: [("Q3_K", _always)]},
        grouped="Q4_K",
    ),
    "Q3_K_S": FileType(11, "Q3_K", 3.6),
    "Q3_K_M": FileType(
        12,
        "Q3_K",
        4.0,
        {
            _V: [("Q5_K", _below(2)), ("Q4_K", _always)],
            _DOWN: [("Q5_K", lambda layer, layers: layer < layers // 16), ("Q4_K", _always)],
            _OUT: [("Q4_K", _always)],
        },
    ),
    "Q3_K_L": FileType(
        13,
        "Q3_K",
        4.3,
        {_V: [("Q5_K", _always)], _DOWN: [("Q5_K", _always)], _OUT: [("Q5_K", _always)]},
    ),
    "IQ4_XS": FileType(30, "IQ4_XS", 4.5, {_DOWN: [("Q5_K", _first_eighth)]}, grouped="Q5_K"),
    "IQ4_NL": FileType(25, "IQ4_NL", 4.7, {_DOWN: [("Q5_K", _first_eighth)]}, grouped="Q5_K"),
    "Q4_0": FileType(2, "Q4_0", 4.7),
    "Q4_1": FileType(3, "Q4_1", 5.1),
    "Q4_K_S": FileType(
        14, "Q4_K", 4.7, {_V: [("Q5_K", _below(4))], _DOWN: [("Q5_K", _first_eighth)]}
    ),
    "Q4_K_M": FileType(15, "Q4_K", 4.9, _MEDIUM),
    "Q5_0": FileType(8, "Q5_0", 5.6),
    "Q5_1": FileType(9, "Q5_1", 6.1),
    "Q5_K_S": FileType(16, "Q5_K", 5.6),
    "Q5_K_M": FileType(17, "Q5_K", 5.7, _MEDIUM),
    "Q6_K": FileType(18, "Q6_K", 6.6),
    "Q8_0": FileType(7, "Q8_0", 8.5),
    "F16": FileType(1, "F16", 16.0),
    "BF16": FileType(32, "BF16", 16.0),
    "F32": FileType(0, "F32", 32.0),
}
#: Types of files that are not quantized.
UNQUANTIZED = ("F32", "F16", "BF16")
#: Quantizations that lose little quality, the preferred one first.
RECOMMENDED = ("Q4_K_M", "Q5_K_M", "Q4_K_S", "Q5_K_S", "Q6_K", "Q8_0")

#: A quantization at the end of a file's name.
_ENDING = re.compile(
    rf"[-._](?:{'|'.join(sorted([*FILE_TYPES, 'FP16', 'FP32'], key=len, reverse=True))})$",
    re.IGNORECASE,
)
_LAYER = re.compile(r"blk\.(\d+)\.")
_BLOCK = {"Q4_0": 32, "Q4_1": 32, "Q5_0": 32, "Q5_1": 32, "Q8_0": 32, "IQ4_NL": 32}
_WIDE_BLOCK = 256
#: The types used instead for rows that are not a multiple of 256 values.
_FALLBACK = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "IQ4_XS": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
#: Parts of names of matrices that are small and stay as they are.
_KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "position_embd",
    "token_types",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "time_mix_",
    "attn_rel_b.weight",
)
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")


class UnknownFileTypeError(ValueError):
    """An unknown quantization; the message lists the known ones."""


def file_type(name: str) -> tuple[str, FileType]:
    """Return a quantization's name in its usual spelling and its FileType; case is ignored.

    Raises:
        UnknownFileTypeError: there is no such quantization.
    """
    upper = name.strip().upper()
    if upper not in FILE_TYPES:
        known = ", ".join(FILE_TYPES)
        raise UnknownFileTypeError(f"unknown quantization {name.strip()!r}; known: {known}")
    return upper, FILE_TYPES[upper]


def renamed(stem: str, kind: str) -> str:
    """Return a file's name (without ``.gguf``) with another quantization at its end."""
    ending = _ENDING.search(stem)
    return f"{stem}-{kind}" if ending is None else f"{stem[: ending.start() + 1]}{kind}"


def quantized_beside(file: Path) -> dict[str, Path]:
    """Return a model's other files in its folder that lose little quality, by quantization.

    Files are recognized by their names, as ``renamed`` makes them, ignoring case; the preferred
    quantization comes first.
    """
    kinds = {f"{renamed(file.stem, kind)}.gguf".casefold(): kind for kind in RECOMMENDED}
    others: dict[str, Path] = {}
    for other in sorted(file.parent.glob("*")):
        kind = kinds.get(other.name.casefold())
        # A link to the file itself does not count.
        if kind and other.is_file() and not (file.exists() and other.samefile(file)):
            others.setdefault(kind, other)
    return {kind: others[kind] for kind in RECOMMENDED if kind in others}


def is_quantized(tensor: Tensor) -> bool:
    """Whether llama.cpp quantizes this tensor at all; norms, biases and routers stay floats."""
    dimensions = max((axis for axis, size in enumerate(tensor.shape, 1) if size > 1), default=1)
    return (
        dimensions > 1
        and tensor.name.endswith("weight")
        and not any(part in tensor.name for part in _KEPT)
    )


def layer_of(name: str) -> int | None:
    """Return the layer that a tensor belongs to; None if to none."""
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def choose_types(
    tensors: Iterable[Tensor], chosen: FileType, *, layers: int, experts: int, sharing: int
) -> list[Tensor]:
    """Return the tensors with the types that llama.cpp's quantizer gives them.

    Args:
        tensors: of the whole model; their present types matter only where they are kept.
        chosen: the file's quantization.
        layers, experts: of the model.
        sharing: heads that share keys and values.
    """
    tensors = list(tensors)
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    value_layers = sorted({layer_of(item.name) or 0 for item in tensors if _kind(item.name) == _V})
    typed = []
    for tensor in tensors:
        if not is_quantized(tensor):
            typed.append(tensor)
            continue
        kind, layer = _kind(tensor.name), layer_of(tensor.name) or 0
        if kind == "output" or (tied and tensor.name in _EMBEDDINGS):
            wanted = _output_type(chosen.default, tensor.shape[0])
        elif kind == _V:
            wanted = _upgraded_type(chosen, kind, value_layers.index(layer), len(value_layers))
            if chosen.grouped and sharing >= 4:
                wanted = chosen.grouped
        else:
            wanted = _upgraded_type(chosen, kind, layer, layers)
        if experts == 8 and chosen.default not in UNQUANTIZED:
            wanted = _eight_expert_type(kind, chosen, wanted)
        typed.append(tensor.of_type(_fitting(wanted, tensor.shape[0])))
    return typed


def _kind(name: str) -> str:
    if name == "output.weight":
        return "output"
    for kind, parts in (
        (_V, ("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight")),
        ("attn_k", ("attn_k.weight",)),
        (_OUT, ("attn_output.weight",)),
        (_DOWN, ("ffn_down",)),
    ):
        if any(part in name for part in parts):
            return kind
    return ""


def _output_type(default: str, row: int) -> str:
    if default in UNQUANTIZED:
        return default
    if default == "Q8_0" or row % _BLOCK.get(default, _WIDE_BLOCK):
        return "Q8_0"
    return "Q6_K"


def _upgraded_type(chosen: FileType, kind: str, layer: int, layers: int) -> str:
    for wanted, rule in chosen.upgrades.get(kind, ()):
        if rule(layer, layers):
            return wanted
    return chosen.default


def _eight_expert_type(kind: str, chosen: FileType, wanted: str) -> str:
    """Return the type for a model of eight experts, whose small attention part gets more bits."""
    if kind in (_V, "attn_k"):
        return "Q8_0"
    fewer_bits = chosen.default in ("Q2_K", "Q3_K", "Q4_K", "IQ4_NL", "IQ4_XS")
    if kind == _OUT and fewer_bits and chosen is not FILE_TYPES["Q3_K_L"]:
        return "Q5_K"
    if kind == _OUT:
        return chosen.default
    return wanted


def _fitting(wanted: str, row: int) -> str:
    """Return the wanted type, or another one whose blocks fill a row of ``row`` values."""
    if wanted in UNQUANTIZED:
        return wanted
    if row % _BLOCK.get(wanted, _WIDE_BLOCK):
        wanted = _FALLBACK.get(wanted, wanted)
    return "F16" if row % _BLOCK.get(wanted, _WIDE_BLOCK) else wanted
