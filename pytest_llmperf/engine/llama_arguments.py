"""Translates the ``llm`` section of the configuration into llama-cpp-python's arguments."""

from __future__ import annotations

import os
from typing import Any

import llama_cpp

_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}


class FileName(str):
    """A file's name that reaches llama.cpp as the bytes in the file system.

    llama-cpp-python encodes it as UTF-8, which fails where Python could not decode it.
    """

    def encode(self, *_: object) -> bytes:
        """Return the file system's bytes, for any requested encoding."""
        return os.fsencode(str(self))


def llama_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``llama_cpp.Llama``, those of ``extra`` included."""
    arguments = {
        name: config[name]
        for name in (
            "n_ctx",
            "n_batch",
            "n_ubatch",
            "n_threads",
            "n_threads_batch",
            "use_mmap",
            "use_mlock",
            "n_gpu_layers",
            "main_gpu",
            "tensor_split",
            "flash_attn",
            "offload_kqv",
            "chat_format",
            "seed",
        )
    }
    arguments["split_mode"] = _SPLIT_MODES[config["split_mode"]]
    for name in ("type_k", "type_v"):
        if config.get(name) is not None:
            arguments[name] = getattr(llama_cpp, f"GGML_TYPE_{config[name].upper()}")
    return {**arguments, **config.get("extra", {})}
