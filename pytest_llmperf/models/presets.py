"""Shapes of published models, and blueprints of their files."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_llmperf.models.blueprint import Blueprint, Tensor, Value
from pytest_llmperf.models.vocabulary import tokenizer


@dataclass(frozen=True)
class Family:
    """Properties that the models of a family share.

    Attributes:
        architecture: llama.cpp's name.
        pre: how text is split before it is made into tokens.
        context: longest context.
        rope_base: base of the rotary positions.
        epsilon: epsilon of the norms.
    """

    architecture: str
    pre: str
    context: int
    rope_base: float
    epsilon: float


@dataclass(frozen=True)
class Preset:
    """The hyperparameters of a published model.

    Attributes:
        family: the properties that it shares with others.
        layers, width, heads: of the transformer; a head has ``width / heads`` values.
        kv_heads: heads of keys and values, each shared by several of the queries.
        inner: width of the feed-forward part; of one expert, if there are experts.
        words: size of the vocabulary, padding included.
        tied: whether the output matrix is the input's.
        experts, experts_used: number of a layer's experts, and of those that a token uses.
    """

    family: Family
    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    words: int
    tied: bool
    experts: int = 0
    experts_used: int = 0

    @property
    def head_width(self) -> int:
        """Number of values of a head."""
        return self.width // self.heads


# As published in each model's config.json.
# fmt: off
#                   architecture  pre          context  rope  epsilon
_SMOLLM2  = Family("llama",      "smollm",       8_192,  1e5,    1e-5)
_QWEN2_5  = Family("qwen2",      "qwen2",       32_768,  1e6,    1e-6)
_LLAMA3_2 = Family("llama",      "llama-bpe",  131_072,  5e5,    1e-5)
_OLMOE    = Family("olmoe",      "olmo",         4_096,  1e4,    1e-5)

PRESETS: Mapping[str, Preset] = {
    #                       family  layers  width  heads  kv   inner    words   tied  experts
    "smollm2-135m": Preset(_SMOLLM2,    30,   576,     9,  3,  1_536,  49_152,  True),
    "qwen2.5-0.5b": Preset(_QWEN2_5,    24,   896,    14,  2,  4_864, 151_936,  True),
    "qwen2.5-1.5b": Preset(_QWEN2_5,    28, 1_536,    12,  2,  8_960, 151_936,  True),
    "qwen2.5-3b":   Preset(_QWEN2_5,    36, 2_048,    16,  2, 11_008, 151_936,  True),
    "qwen2.5-7b":   Preset(_QWEN2_5,    28, 3_584,    28,  4, 18_944, 152_064, False),
    "llama-3.2-1b": Preset(_LLAMA3_2,   16, 2_048,    32,  8,  8_192, 128_256,  True),
    "llama-3.2-3b": Preset(_LLAMA3_2,   28, 3_072,    24,  8,  8_192, 128_256,  True),
    "olmoe-1b-7b":  Preset(_OLMOE,      16, 2_048,    16, 16,  1_024,  50_304, False, 64, 8),
}
# fmt: on


def preset_blueprint(preset: Preset, name: str, layers: int | None = None) -> Blueprint:
    """Return the blueprint of a preset's file, with all tensors as 32-bit floats.

    Args:
        preset: the shape.
        name: of the model, for its metadata.
        layers: number of layers, if not the preset's.
    """
    layers, family = layers or preset.layers, preset.family
    own: dict[str, int | float] = {
        "block_count": layers,
        "context_length": family.context,
        "embedding_length": preset.width,
        "feed_forward_length": preset.inner,
        "attention.head_count": preset.heads,
        "attention.head_count_kv": preset.kv_heads,
        "attention.layer_norm_rms_epsilon": family.epsilon,
        "rope.freq_base": family.rope_base,
        "rope.dimension_count": preset.head_width,
        "vocab_size": preset.words,
    }
    if preset.experts:
        own |= {"expert_count": preset.experts, "expert_used_count": preset.experts_used}
    metadata = {"general.type": Value.of("model"), "general.name": Value.of(name)}
    metadata |= {f"{family.architecture}.{key}": Value.of(value) for key, value in own.items()}
    metadata |= tokenizer(preset.words, family.pre)
    tensors = [Tensor(name, shape) for name, shape in _ends(preset)]
    if family is _LLAMA3_2:
        tensors.append(_long_context_rope(preset))
    for layer in range(layers):
        tensors += [Tensor(f"blk.{layer}.{name}", shape) for name, shape in _layer(preset)]
    return Blueprint(family.architecture, metadata, tensors)


_Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _ends(preset: Preset) -> _Shapes:
    if not preset.tied:
        yield "output.weight", (preset.width, preset.words)
    yield "output_norm.weight", (preset.width,)
    yield "token_embd.weight", (preset.width, preset.words)


def _layer(preset: Preset) -> _Shapes:
    width, inner, shared = preset.width, preset.inner, preset.kv_heads * preset.head_width
    yield "attn_norm.weight", (width,)
    for name, outputs in (("attn_q", width), ("attn_k", shared), ("attn_v", shared)):
        yield f"{name}.weight", (width, outputs)
        if preset.family is _QWEN2_5:
            yield f"{name}.bias", (outputs,)
    if preset.family is _OLMOE:
        yield "attn_q_norm.weight", (width,)
        yield "attn_k_norm.weight", (shared,)
    yield "attn_output.weight", (width, width)
    yield "ffn_norm.weight", (width,)
    part = ""
    experts: tuple[int, ...] = ()
    if preset.experts:
        part, experts = "_exps", (preset.experts,)
        yield "ffn_gate_inp.weight", (width, preset.experts)
    yield f"ffn_gate{part}.weight", (width, inner, *experts)
    yield f"ffn_up{part}.weight", (width, inner, *experts)
    yield f"ffn_down{part}.weight", (inner, width, *experts)


#: Llama 3.2's ``rope_scaling``.
_FACTOR, _LOW, _HIGH, _OLD_CONTEXT = 32.0, 1.0, 4.0, 8192


def _long_context_rope(preset: Preset) -> Tensor:
    """Return the factors by which Llama 3.2 stretches its slow rotations.

    Source: ``_compute_llama3_parameters`` of transformers, as llama.cpp's converter writes it.
    """
    width = preset.head_width
    factors = []
    for pair in range(0, width, 2):
        length = 2 * math.pi * preset.family.rope_base ** (pair / width)
        if length < _OLD_CONTEXT / _HIGH:
            factors.append(1.0)
        elif length > _OLD_CONTEXT / _LOW:
            factors.append(_FACTOR)
        else:
            smooth = (_OLD_CONTEXT / length - _LOW) / (_HIGH - _LOW)
            factors.append(1 / ((1 - smooth) / _FACTOR + smooth))
    data = struct.pack(f"<{len(factors)}f", *factors)
    return Tensor("rope_freqs.weight", (len(factors),), data=data)
