"""Writes small GGUF files: models of a few kilobytes that llama.cpp loads and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType

from pytest_llmperf.engine.client import EngineClient

_TYPES = {
    str: GGUFValueType.STRING,
    float: GGUFValueType.FLOAT32,
    int: GGUFValueType.UINT32,
    np.uint16: GGUFValueType.UINT16,
    np.int32: GGUFValueType.INT32,
    list: GGUFValueType.ARRAY,
}

#: Name -> shape as ggml has it: the length of a row first.
Tensors = Mapping[str, Sequence[int]]
#: Writes a model from its metadata and tensors.
Write = Callable[[Mapping[str, Any], Tensors], Path]
#: Loads a model file in a process of its own, with some settings changed.
Load = Callable[..., EngineClient]


def write_gguf(path: Path, keys: Mapping[str, Any], tensors: Tensors) -> Path:
    """Write a file whose tensors are 32-bit floats, small and not all alike."""
    writer = gguf.GGUFWriter(path, keys["general.architecture"])
    for key, value in keys.items():
        if key != "general.architecture":
            writer.add_key_value(key, value, _TYPES[type(value)])
    for name, shape in tensors.items():
        values = np.sin(np.arange(np.prod(shape), dtype=np.float32)) / 8
        writer.add_tensor(name, values.reshape(shape[::-1]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


EMBEDDING, FEED_FORWARD, HEADS, VOCABULARY = 64, 96, 2, 300
#: Bytes of a 32-bit float.
FLOAT = 4


def llama_keys(layers: int, **changes: Any) -> dict[str, Any]:
    """Return the metadata of a small Llama; ``changes`` are set under its ``llama.`` keys."""
    special = ["<unk>", "<s>", "</s>"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [f"word{n}" for n in range(VOCABULARY - len(special) - len(letters))]
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": layers,
        "llama.context_length": 512,
        "llama.embedding_length": EMBEDDING,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": VOCABULARY,
        "llama.rope.dimension_count": EMBEDDING // HEADS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*special, *letters, *words],
        "tokenizer.ggml.scores": [0.0] * VOCABULARY,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(words)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **{f"llama.{name}": value for name, value in changes.items()},
    }


def llama_tensors(layers: int, *, experts: int = 0, shared: int = 0, tied: bool) -> Tensors:
    """Return the tensors of that Llama: dense, or with experts and ``shared`` units always on."""
    n, ff = EMBEDDING, FEED_FORWARD
    tensors: dict[str, Sequence[int]] = {
        "token_embd.weight": (n, VOCABULARY),
        "output_norm.weight": (n,),
    }
    if not tied:
        tensors["output.weight"] = (n, VOCABULARY)
    for layer in range(layers):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{name}.weight"] = (n, n)
        tensors[f"{block}attn_norm.weight"] = (n,)
        tensors[f"{block}ffn_norm.weight"] = (n,)
        if experts:
            tensors[f"{block}ffn_gate_inp.weight"] = (n, experts)
            tensors[f"{block}ffn_gate_exps.weight"] = (n, ff, experts)
            tensors[f"{block}ffn_up_exps.weight"] = (n, ff, experts)
            tensors[f"{block}ffn_down_exps.weight"] = (ff, n, experts)
        if not experts or shared:
            part, width = ("_shexp", shared) if experts else ("", ff)
            tensors[f"{block}ffn_gate{part}.weight"] = (n, width)
            tensors[f"{block}ffn_up{part}.weight"] = (n, width)
            tensors[f"{block}ffn_down{part}.weight"] = (width, n)
    return tensors


def gemma_keys(layers: int, window: int) -> dict[str, Any]:
    """Return the metadata of a Gemma 3: five of six layers look back only ``window`` positions."""
    renamed = {
        key.replace("llama.", "gemma3.") if key.startswith("llama.") else key: value
        for key, value in llama_keys(layers).items()
    }
    return {
        **renamed,
        "general.architecture": "gemma3",
        "gemma3.attention.sliding_window": window,
        "gemma3.attention.key_length": EMBEDDING // HEADS,
        "gemma3.attention.value_length": EMBEDDING // HEADS,
    }


def gemma_tensors(layers: int) -> Tensors:
    """Return the tensors of that Gemma."""
    tensors = dict(llama_tensors(layers, tied=True))
    for layer in range(layers):
        for name in ("attn_q_norm", "attn_k_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = (EMBEDDING // HEADS,)
        for name in ("post_attention_norm", "post_ffw_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = (EMBEDDING,)
    return tensors


def split_gguf(path: Path, keys: Mapping[str, Any], tensors: Tensors, files: int) -> Path:
    """Write the tensors over several files, named as gguf-split names them; return the first."""
    names = list(tensors)
    paths = []
    for number in range(files):
        counts = {
            "split.no": np.uint16(number),
            "split.count": np.uint16(files),
            "split.tensors.count": np.int32(len(names)),
        }
        part = {name: tensors[name] for name in names[number::files]}
        target = path.with_name(f"{path.stem}-{number + 1:05d}-of-{files:05d}.gguf")
        own = keys if number == 0 else {"general.architecture": keys["general.architecture"]}
        paths.append(write_gguf(target, {**own, **counts}, part))
    return paths[0]
