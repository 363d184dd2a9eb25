"""The quantizations of whole files, and the type that each gives a tensor.

A file of ``Q4_K_M`` holds several types: most matrices are Q4_K, those that lose most by it Q6_K.
Source: ``llama_tensor_get_type`` of llama.cpp's ``llama-quant.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llmperf.models.blueprint import Tensor

#: Whether a tensor of this layer, of so many, gets the better type.
_Rule = Callable[[int, int], bool]


def _always(_layer: int, _layers: int) -> bool:
    return True


def _first_eighth(layer: int, layers: int) -> bool:
    return layer < layers // 8


def _more_bits(layer: int, layers: int) -> bool:
    """The first and last eighth of the layers, and every third between them."""
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
        bits: that a weight takes, on average, for estimates of a file's size.
        better: by kind of tensor, the types tried in turn with the layers they are for.
        grouped: type of ``attn_v`` if 4 or more heads share it.
    """

    number: int
    default: str
    bits: float
    better: Mapping[str, Sequence[tuple[str, _Rule]]] = field(default_factory=dict)
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
#: What a file is made of that is not quantized.
UNQUANTIZED = ("F32", "F16", "BF16")
#: Quantizations that lose little, the preferred one first.
LOSE_LITTLE = ("Q4_K_M", "Q5_K_M", "Q4_K_S", "Q5_K_S", "Q6_K", "Q8_0")

#: A quantization at the end of a file's name.
_ENDING = re.compile(
    rf"[-._](?:{'|'.join(sorted([*FILE_TYPES, 'FP16', 'FP32'], key=len, reverse=True))})$",
    re.IGNORECASE,
)
_LAYER = re.compile(r"blk\.(\d+)\.")
_BLOCK = {"Q4_0": 32, "Q4_1": 32, "Q5_0": 32, "Q5_1": 32, "Q8_0": 32, "IQ4_NL": 32}
_WIDE_BLOCK = 256
#: For rows that are no multiple of 256 values.
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
    """There is no such quantization; the message lists those that there are."""


def file_type(name: str) -> tuple[str, FileType]:
    """Return the name as it is written, and the quantization; upper and lower case are the same.

    Raises:
        UnknownFileTypeError: there is none.
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
    """Return the other files of a model in its folder that lose little, by quantization.

    They are known by their names, as ``renamed`` has them, in upper or lower case; the preferred
    one is the first.
    """
    kinds = {f"{renamed(file.stem, kind)}.gguf".casefold(): kind for kind in LOSE_LITTLE}
    found: dict[str, Path] = {}
    for other in sorted(file.parent.glob("*")):
        kind = kinds.get(other.name.casefold())
        # A link to the file is no other one.
        if kind and other.is_file() and not (file.exists() and other.samefile(file)):
            found.setdefault(kind, other)
    return {kind: found[kind] for kind in LOSE_LITTLE if kind in found}


def is_quantized(tensor: Tensor) -> bool:
    """Whether llama.cpp quantizes this tensor at all; norms, biases and routers stay floats."""
    dimensions = max((at for at, length in enumerate(tensor.shape, 1) if length > 1), default=1)
    return (
        dimensions > 1
        and tensor.name.endswith("weight")
        and not any(part in tensor.name for part in _KEPT)
    )


def layer_of(name: str) -> int | None:
    """Return the layer that a tensor belongs to; None if to none."""
    found = _LAYER.match(name)
    return int(found[1]) if found else None


def choose_types(
    tensors: Iterable[Tensor], chosen: FileType, *, layers: int, experts: int, sharing: int
) -> list[Tensor]:
    """Return the tensors with the types that llama.cpp's quantizer gives them.

    Args:
        tensors: of the whole model; the types they have count only where they are kept.
        chosen: the file's quantization.
        layers, experts: of the model.
        sharing: heads that share keys and values.
    """
    tensors = list(tensors)
    tied = all(tensor.name != "output.weight" for tensor in tensors)
    value_layers = sorted({layer_of(one.name) or 0 for one in tensors if _kind(one.name) == _V})
    found = []
    for tensor in tensors:
        if not is_quantized(tensor):
            found.append(tensor)
            continue
        kind, layer = _kind(tensor.name), layer_of(tensor.name) or 0
        if kind == "output" or (tied and tensor.name in _EMBEDDINGS):
            wanted = _output_type(chosen.default, tensor.shape[0])
        elif kind == _V:
            wanted = _better(chosen, kind, value_layers.index(layer), len(value_layers))
            if chosen.grouped and sharing >= 4:
                wanted = chosen.grouped
        else:
            wanted = _better(chosen, kind, layer, layers)
        if experts == 8 and chosen.default not in UNQUANTIZED:
            wanted = _of_eight_experts(kind, chosen, wanted)
        found.append(tensor.of_type(_fitting(wanted, tensor.shape[0])))
    return found


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


def _better(chosen: FileType, kind: str, layer: int, layers: int) -> str:
    for wanted, rule in chosen.better.get(kind, ()):
        if rule(layer, layers):
            return wanted
    return chosen.default


def _of_eight_experts(kind: str, chosen: FileType, wanted: str) -> str:
    """Of models with eight experts, attention is so small a part that it can have more bits."""
    if kind in (_V, "attn_k"):
        return "Q8_0"
    fewer_bits = chosen.default in ("Q2_K", "Q3_K", "Q4_K", "IQ4_NL", "IQ4_XS")
    if kind == _OUT and fewer_bits and chosen is not FILE_TYPES["Q3_K_L"]:
        return "Q5_K"
    if kind == _OUT:
        return chosen.default
    return wanted


def _fitting(wanted: str, row: int) -> str:
    """Return a type whose blocks fill a row of so many values."""
    if wanted in UNQUANTIZED:
        return wanted
    if row % _BLOCK.get(wanted, _WIDE_BLOCK):
        wanted = _FALLBACK.get(wanted, wanted)
    return "F16" if row % _BLOCK.get(wanted, _WIDE_BLOCK) else wanted
