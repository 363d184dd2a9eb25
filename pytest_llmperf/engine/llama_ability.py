"""Checks whether a loaded model can generate text at all, one token after another.

llama.cpp also decodes with models that are not made for it, as fast as with any other, and
produces meaningless tokens.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Mapping
from typing import Any

import llama_cpp

_TWO_WAY = re.compile(r"causal_attn\s*= 0")
_OTHER_MODEL = "name a model that generates text in llm.model_path"
_OR_APP = f"{_OTHER_MODEL}, or measure your own code around this one (llm.engine: app)"


def why_no_text(model: Any, ctx: Any, config: Mapping[str, Any], log: Iterable[str]) -> str:
    """Return why a loaded model can't generate text, and what to do; "" if it can.

    Args:
        model, ctx: llama.cpp's pointers.
        config: the ``llm`` section it was loaded with.
        log: llama.cpp's log of the load.
    """
    extra = config.get("extra", {})
    if extra.get("vocab_only"):
        return "llm.extra.vocab_only leaves its weights out; remove it"
    vocab = llama_cpp.llama_model_get_vocab(model)
    if llama_cpp.llama_vocab_type(vocab) == llama_cpp.LLAMA_VOCAB_TYPE_NONE:
        return (
            "it has no tokenizer (tokenizer.ggml.model is no_vocab), so there is no text for its "
            f"tokens; {_OTHER_MODEL}"
        )
    architecture = f"its architecture, {_architecture(model)},"
    encoder = llama_cpp.llama_model_has_encoder(model)
    decoder = llama_cpp.llama_model_has_decoder(model)
    if encoder and decoder:
        return (
            f"{architecture} is an encoder with a decoder, and the llama_cpp engine runs models "
            f"that are a decoder alone; {_OR_APP}"
        )
    diffusion = getattr(llama_cpp, "llama_model_is_diffusion", None)
    if diffusion is not None and diffusion(model):
        return (
            f"{architecture} is a diffusion model, which generates all tokens at once, not one "
            f"after another; {_OR_APP}"
        )
    if not decoder or not llama_cpp.llama_get_memory(ctx):
        return f"{architecture} is an encoder: it produces embeddings, not text; {_OR_APP}"
    if any(_TWO_WAY.search(line) for line in log):
        if "attention_type" in extra:
            return (
                "llm.extra.attention_type makes its attention bidirectional, but later tokens are "
                "not there yet while text is generated; remove it"
            )
        return (
            "its attention is bidirectional (attention.causal is false), like that of an embedding "
            f"model; {_OTHER_MODEL}"
        )
    return ""


def _architecture(model: Any) -> str:
    buffer = ctypes.create_string_buffer(64)
    key = b"general.architecture"
    length = llama_cpp.llama_model_meta_val_str(model, key, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length > 0 else "unknown"
