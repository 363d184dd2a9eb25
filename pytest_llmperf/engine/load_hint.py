"""What may be wrong with a model file that llama.cpp could not load."""

from __future__ import annotations

from pathlib import Path


def load_hint(path: str) -> str:
    """Say what the file at ``path`` looks like: unreadable, no GGUF, or perhaps truncated."""
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return f"the file can't be read: {error}"
    if magic != b"GGUF":
        return "the file is no GGUF model"
    return (
        "the file may be truncated (compare its size or SHA-256 with the source), or memory is "
        "short (fewer llm.n_gpu_layers, a smaller llm.n_ctx or quantization)"
    )
