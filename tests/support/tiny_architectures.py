"""Tiny models of architectures other than Llama, which generate differently or not at all.

As in tiny_models: written once, random weights from a seed, one token per byte of text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
from tiny_models import CHAT_TEMPLATE, CONTEXT, END, VOCABULARY, TinyModel, tiny_model

_WIDTH, _HEAD, _INNER = 64, 32, 128
_HEADS = _WIDTH // _HEAD
#: Sizes of a state space layer: width, state, convolution, and rank of the time step.
_SSM, _STATE, _CONVOLUTION, _RANK = 2 * _WIDTH, 16, 4, 4
#: Positions that a layer with a sliding window looks back, its own included.
WINDOW = 32


def tiny_mamba(*, layers: int = 2, seed: int = 0, ends: bool = False) -> Path:
    """Return a Mamba, which remembers a state instead of single tokens.

    ``ends``: generate end of sequence every ten tokens or so, not once in hundreds.
    """

    def fill(model: TinyModel) -> None:
        _common(model, layers)
        _ssm_keys(model)
        for layer in range(layers):
            model.norm(f"blk.{layer}.attn_norm", _WIDTH)
            _ssm(model, layer)
        if ends:
            model.overwrite("output.weight", END, 0.3)

    return _tiny("mamba", fill, seed, layers=layers, ends=ends)


def tiny_jamba(*, layers: int = 4, seed: int = 0) -> Path:
    """Return a Jamba: a hybrid with attention in every second layer and Mamba in the others."""
    attention = [layer % 2 for layer in range(layers)]

    def fill(model: TinyModel) -> None:
        _common(model, layers, caches=[_HEADS * attends for attends in attention])
        _ssm_keys(model)
        for layer, attends in enumerate(attention):
            model.norm(f"blk.{layer}.attn_norm", _WIDTH)
            if attends:
                _attention(model, f"blk.{layer}.attn")
            else:
                _ssm(model, layer, norms=True)
            _feed_forward(model, f"blk.{layer}")

    return _tiny("jamba", fill, seed, layers=layers)


def tiny_lfm2(*, layers: int = 4, seed: int = 0, window: bool = False) -> Path:
    """Return an LFM2: a hybrid of attention (every second layer) and short convolutions.

    ``window``: attention looks back only ``WINDOW`` positions.
    """
    attention = [layer % 2 for layer in range(layers)]

    def fill(model: TinyModel) -> None:
        _common(model, layers, caches=[_HEADS * attends for attends in attention], output=False)
        model.writer.add_uint32("lfm2.shortconv.l_cache", 3)
        if window:
            model.writer.add_sliding_window(WINDOW)
        model.norm("token_embd_norm", _WIDTH)
        for layer, attends in enumerate(attention):
            block = f"blk.{layer}"
            model.norm(f"{block}.attn_norm", _WIDTH)
            if attends:
                _attention(model, f"{block}.attn")
                model.norm(f"{block}.attn_q_norm", _HEAD)
                model.norm(f"{block}.attn_k_norm", _HEAD)
            else:
                model.values(f"{block}.shortconv.conv.weight", model.random(_WIDTH, 3))
                model.matrix(f"{block}.shortconv.in_proj", _WIDTH, 3 * _WIDTH)
                model.matrix(f"{block}.shortconv.out_proj", _WIDTH, _WIDTH)
            _feed_forward(model, block)

    return _tiny("lfm2", fill, seed, layers=layers, window=window)


def tiny_gemma(*, layers: int = 4, seed: int = 0) -> Path:
    """Return a Gemma 3: every second layer looks back only ``WINDOW`` positions."""

    def fill(model: TinyModel) -> None:
        _common(model, layers)
        writer = model.writer
        writer.add_sliding_window(WINDOW)
        writer.add_sliding_window_pattern(2)
        writer.add_key_length(_HEAD)
        writer.add_value_length(_HEAD)
        for layer in range(layers):
            block = f"blk.{layer}"
            model.norm(f"{block}.attn_norm", _WIDTH)
            _attention(model, f"{block}.attn")
            model.norm(f"{block}.attn_q_norm", _HEAD)
            model.norm(f"{block}.attn_k_norm", _HEAD)
            model.norm(f"{block}.post_attention_norm", _WIDTH)
            _feed_forward(model, block)
            model.norm(f"{block}.post_ffw_norm", _WIDTH)

    return _tiny("gemma3", fill, seed, layers=layers)


def tiny_bert(*, seed: int = 0) -> Path:
    """Return a BERT: an encoder, which creates embeddings and no text."""

    def fill(model: TinyModel) -> None:
        _common(model, 1, output=False)
        writer = model.writer
        writer.add_layer_norm_eps(1e-5)
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
        model.matrix("position_embd", _WIDTH, CONTEXT)
        model.values("token_types.weight", model.random(2, _WIDTH))
        for norm in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
            model.norm(norm, _WIDTH)
            model.values(f"{norm}.bias", model.random(_WIDTH))
        _attention(model, "blk.0.attn")
        model.matrix("blk.0.ffn_up", _WIDTH, _INNER)
        model.matrix("blk.0.ffn_down", _INNER, _WIDTH)

    return _tiny("bert", fill, seed)


def tiny_t5(*, encoder_only: bool = False, seed: int = 0) -> Path:
    """Return a T5: an encoder that reads the prompt and, unless ``encoder_only``, a decoder."""

    def fill(model: TinyModel) -> None:
        _common(model, 1, output=False)
        writer = model.writer
        writer.add_relative_attn_buckets_count(32)
        writer.add_key_length(_HEAD)
        writer.add_value_length(_HEAD)
        for side in ("enc",) if encoder_only else ("enc", "dec"):
            block = f"{side}.blk.0"
            model.norm(f"{side}.output_norm", _WIDTH)
            model.norm(f"{block}.attn_norm", _WIDTH)
            model.values(f"{block}.attn_rel_b.weight", model.random(32, _HEADS))
            _attention(model, f"{block}.attn", output="attn_o")
            if side == "dec":
                model.norm(f"{block}.cross_attn_norm", _WIDTH)
                _attention(model, f"{block}.cross_attn", output="cross_attn_o")
            _feed_forward(model, block)
        if not encoder_only:
            writer.add_decoder_start_token_id(1)

    return _tiny("t5encoder" if encoder_only else "t5", fill, seed)


def tiny_two_way(*, seed: int = 0) -> Path:
    """Return a Llama without causal attention, as in an embedding model made from a Llama."""

    def fill(model: TinyModel) -> None:
        model.vocabulary(CHAT_TEMPLATE)
        model.transformer(2, _WIDTH)
        model.writer.add_causal_attention(False)

    return _tiny("llama", fill, seed, causal=False)


def tiny_without_vocabulary(*, seed: int = 0) -> Path:
    """Return a Llama without a tokenizer: it knows token ids but no text."""

    def fill(model: TinyModel) -> None:
        model.writer.add_tokenizer_model("no_vocab")
        model.writer.add_vocab_size(VOCABULARY)
        model.transformer(2, _WIDTH)

    return _tiny("llama", fill, seed, vocabulary=False)


def tiny_damaged(*, value: float = float("nan"), row: int | None = None) -> Path:
    """Return a Llama with a broken weight (NaN by default), in a layer or a token's output row."""

    def fill(model: TinyModel) -> None:
        model.vocabulary(CHAT_TEMPLATE)
        model.transformer(2, _WIDTH)
        tensor = "blk.1.attn_norm.weight" if row is None else "output.weight"
        model.overwrite(tensor, row or 0, value)

    return _tiny("llama", fill, 0, damaged=[str(value), row])


def _tiny(
    architecture: str, fill: Callable[[TinyModel], None], seed: int, **recipe: object
) -> Path:
    made_of = {"architecture": architecture, "source": _SOURCE, **recipe}
    return tiny_model(made_of, fill, seed=seed, name=f"tiny-{architecture}")


_SOURCE = Path(__file__).read_text(encoding="utf-8")


def _common(
    model: TinyModel, layers: int, *, caches: list[int] | None = None, output: bool = True
) -> None:
    model.vocabulary(CHAT_TEMPLATE)
    writer = model.writer
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(caches or _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    if output:
        model.embedding(_WIDTH)
    else:
        # The output matrix is the same, and must not make the input huge.
        model.matrix("token_embd", _WIDTH, VOCABULARY)


def _attention(model: TinyModel, prefix: str, output: str = "attn_output") -> None:
    for name in ("q", "k", "v"):
        model.matrix(f"{prefix}_{name}", _WIDTH, _WIDTH)
    model.matrix(f"{prefix.rpartition('.')[0]}.{output}", _WIDTH, _WIDTH)


def _feed_forward(model: TinyModel, block: str) -> None:
    model.norm(f"{block}.ffn_norm", _WIDTH)
    model.matrix(f"{block}.ffn_gate", _WIDTH, _INNER)
    model.matrix(f"{block}.ffn_up", _WIDTH, _INNER)
    model.matrix(f"{block}.ffn_down", _INNER, _WIDTH)


def _ssm_keys(model: TinyModel) -> None:
    model.writer.add_ssm_conv_kernel(_CONVOLUTION)
    model.writer.add_ssm_inner_size(_SSM)
    model.writer.add_ssm_state_size(_STATE)
    model.writer.add_ssm_time_step_rank(_RANK)


def _ssm(model: TinyModel, layer: int, *, norms: bool = False) -> None:
    block = f"blk.{layer}"
    model.matrix(f"{block}.ssm_in", _WIDTH, 2 * _SSM)
    model.values(f"{block}.ssm_conv1d.weight", model.random(_SSM, _CONVOLUTION))
    model.values(f"{block}.ssm_conv1d.bias", model.random(_SSM))
    model.matrix(f"{block}.ssm_x", _SSM, _RANK + 2 * _STATE)
    model.matrix(f"{block}.ssm_dt", _RANK, _SSM)
    model.values(f"{block}.ssm_dt.bias", model.random(_SSM))
    # Negative, so that the state decays.
    model.values(f"{block}.ssm_a", -np.exp(model.random(_SSM, _STATE)))
    model.values(f"{block}.ssm_d", model.random(_SSM))
    model.matrix(f"{block}.ssm_out", _SSM, _WIDTH)
    if norms:
        for name, width in (("dt", _RANK), ("b", _STATE), ("c", _STATE)):
            model.norm(f"{block}.ssm_{name}_norm", width)
