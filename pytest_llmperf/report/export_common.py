"""Common parts of the exports to llama-server, Ollama and Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf.config.gguf import SplitModelError, model_files
from pytest_llmperf.text import printable, shown_value

#: More layers than any model has; every version of llama-server and Ollama takes it as all.
_ALL_LAYERS = 999
#: Note on settings that only limit the measurement, which no program needs.
LIMITS = "load_timeout, generation_timeout: limits of the measurement only"


def layers(settings: Mapping[str, Any]) -> int:
    """Return the number of layers on the GPU; for -1, a number that means all layers."""
    number = int(settings["n_gpu_layers"])
    return _ALL_LAYERS if number == -1 else number


def is_split(file: str) -> bool:
    """Whether the model is split into several files."""
    try:
        return len(model_files(Path(file))) > 1
    except (SplitModelError, OSError):
        return False


def not_set(key: str, settings: Mapping[str, Any]) -> str:
    """Return the note that an argument in ``extra`` has no equivalent."""
    return f"extra.{key}: {shown_value(settings['extra'][key])}: no equivalent"


def comments(notes: Sequence[str]) -> Iterator[str]:
    """Yield notes as comments, which start with ``#`` in all three notations."""
    yield from (f"# {printable(' '.join(note.split()))}" for note in notes)
