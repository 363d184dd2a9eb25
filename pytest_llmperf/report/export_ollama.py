"""The engine's settings as a Modelfile for Ollama.

Sources: Ollama's ``api/types.go`` for parameters, its ``parser/parser.go`` for the notation, and
its FAQ for environment variables. Ollama rejects unknown parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.config.hub import HubFile
from pytest_llmperf.config.model_files import uses_mmap
from pytest_llmperf.report.export_common import LIMITS, comments, is_split, layers, not_set
from pytest_llmperf.text import shown_value

_CACHE_TYPES = ("f16", "q8_0", "q4_0")
_SPLIT_NOTE = "the model is in several files; merge them first: llama-gguf-split --merge FIRST OUT"


def ollama(settings: Mapping[str, Any], file: str, hub: HubFile | None) -> Iterator[str]:
    """Yield the lines of a Modelfile."""
    extra = dict(settings["extra"])
    adapter = extra.pop("lora_path", None)
    yield "# Settings for Ollama: ollama create NAME -f Modelfile"
    yield "# Set in the environment of `ollama serve`; they hold for all models:"
    yield from (f"#   {line}" for line in _ollama_environment(settings))
    yield from comments([*_ollama_notes(file, hub), *_ollama_missing(settings, extra)])
    yield f"FROM {_modelfile_value(file)}" if hub is None else f"FROM hf.co/{_ollama_hub(hub)}"
    if adapter is not None:
        yield f"ADAPTER {_modelfile_value(str(Path(adapter).absolute()))}"
    yield f"PARAMETER num_ctx {settings['n_ctx']}"
    yield f"PARAMETER num_batch {settings['n_batch']}"
    yield f"PARAMETER num_thread {settings['n_threads']}"
    yield f"PARAMETER num_gpu {layers(settings)}"
    if settings["main_gpu"]:
        yield f"PARAMETER main_gpu {settings['main_gpu']}"
    yield f"PARAMETER use_mmap {str(uses_mmap(settings)).lower()}"
    yield f"PARAMETER num_predict {settings['max_tokens']}"
    yield f"PARAMETER seed {settings['seed']}"


def _ollama_environment(settings: Mapping[str, Any]) -> Iterator[str]:
    yield f"OLLAMA_FLASH_ATTENTION={int(settings['flash_attn'])}"
    types = {settings[key] or "f16" for key in ("type_k", "type_v")}
    if len(types) == 1 and types <= set(_CACHE_TYPES):
        yield f"OLLAMA_KV_CACHE_TYPE={types.pop()}"
    yield "OLLAMA_NUM_PARALLEL=1"


def _ollama_notes(file: str, hub: HubFile | None) -> Iterator[str]:
    if hub is not None and hub.revision is not None:
        yield f"Revision {hub.revision} of the model can't be named; this takes the newest."
    if hub is None and is_split(file):
        yield f"Ollama imports single files, but {_SPLIT_NOTE}"


def _ollama_missing(settings: Mapping[str, Any], extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that Ollama can't take, each with the reason."""
    types = tuple(settings[key] or "f16" for key in ("type_k", "type_v"))
    if types[0] != types[1] or types[0] not in _CACHE_TYPES:
        yield (
            f"type_k: {types[0]}, type_v: {types[1]}: Ollama has one type for both: "
            f"{', '.join(_CACHE_TYPES)}"
        )
    if settings["n_threads_batch"] != settings["n_threads"]:
        yield f"n_threads_batch: {settings['n_threads_batch']}: Ollama uses num_thread for both"
    if settings["use_mlock"]:
        yield "use_mlock: true: Ollama ignores it"
    for key, default in (
        ("n_ubatch", None),
        ("split_mode", "layer"),
        ("tensor_split", None),
        ("offload_kqv", True),
        ("chat_format", None),
    ):
        if settings[key] != default:
            yield f"{key}: {shown_value(settings[key])}: no equivalent"
    yield from (not_set(key, settings) for key in extra)
    yield LIMITS


def _ollama_hub(hub: HubFile) -> str:
    """Return Ollama's name for a file of the hub: the file's name is the tag."""
    return f"{hub.repo}:{hub.file.rpartition('/')[2]}"


def _modelfile_value(text: str) -> str:
    """Quote a path that starts or ends with spaces, which Ollama would strip."""
    return f'"{text}"' if text != text.strip() else text
