"""The engine's settings for other programs: llama-server, Ollama, Python.

Settings that a program does not support are listed in comments, never dropped silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pytest_llmperf.config.hub import PREFIX, HubFile, parse
from pytest_llmperf.engine_kinds import engine_kind
from pytest_llmperf.report.export_common import LIMITS, comments, not_set
from pytest_llmperf.report.export_ollama import ollama
from pytest_llmperf.report.export_server import llama_server
from pytest_llmperf.text import printable

Program = Literal["llama-server", "ollama", "python"]


class ExportError(Exception):
    """The settings can't be exported to the program; str() is the complete message."""


def export_settings(
    program: Program, settings: Mapping[str, Any], model_file: Path | str | None
) -> str:
    """Return the settings as a shell command, a Modelfile or Python code.

    Args:
        program: the program to export to.
        settings: a resolved ``llm`` section, as from ``LlmConfig.resolved``.
        model_file: the GGUF file; None for a hub model named by ``model_path``.

    Raises:
        ExportError: the engine is not llama.cpp, or a path has unprintable characters.
    """
    kind = engine_kind(settings["engine"])
    if not kind.uses_llama_settings or kind.needs != "model":
        raise ExportError(
            f"llm.engine is {settings['engine']}, which does not use llama.cpp's settings; only "
            "those of llm.engine: llama_cpp can be exported"
        )
    hub = parse(settings["model_path"]) if model_file is None else None
    file = str(Path(model_file).absolute()) if model_file is not None else ""
    for path in (file, str(settings["extra"].get("lora_path") or "")):
        # No way to write them works in a shell, a Modelfile and Python.
        if not path.isprintable():
            text = f"the file name {printable(path)!r} has characters that can't be printed"
            raise ExportError(f"{text}; rename the file, or link to it")
    write = {"llama-server": llama_server, "ollama": ollama, "python": _python}[program]
    return "\n".join(write(settings, file, hub)) + "\n"


def is_hub_model(settings: Mapping[str, Any]) -> bool:
    """Whether ``model_path`` names a hub's file, which an export need not download."""
    return str(settings["model_path"]).startswith(PREFIX)


def _python(settings: Mapping[str, Any], file: str, hub: HubFile | None) -> Iterator[str]:
    yield "import llama_cpp"
    if hub is not None:
        yield "from huggingface_hub import hf_hub_download"
    yield ""
    notes = [] if hub is None or "-of-" not in hub.file else ["download the model's other parts"]
    notes += [f"max_tokens: in each request, max_tokens={settings['max_tokens']}"]
    notes += [LIMITS]
    notes += [not_set(key, settings) for key in settings["extra"] if not key.isidentifier()]
    yield from comments(notes)
    yield "llm = llama_cpp.Llama("
    yield f"    model_path={_python_model(file, hub)},"
    for key in (
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
    ):
        yield f"    {key}={_literal(settings[key])},"
    yield f"    split_mode=llama_cpp.LLAMA_SPLIT_MODE_{settings['split_mode'].upper()},"
    for key in ("type_k", "type_v"):
        if settings[key] is not None:
            yield f"    {key}=llama_cpp.GGML_TYPE_{settings[key].upper()},"
    for key, value in settings["extra"].items():
        if key.isidentifier():
            yield f"    {key}={_literal(value)},"
    yield ")"


def _python_model(file: str, hub: HubFile | None) -> str:
    if hub is None:
        return _literal(file)
    words = [_literal(hub.repo), _literal(hub.file)]
    if hub.revision is not None:
        words.append(f"revision={_literal(hub.revision)}")
    return f"hf_hub_download({', '.join(words)})"


def _literal(value: Any) -> str:
    """Return plain JSON as a Python literal, text in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        pairs = (f"{_literal(key)}: {_literal(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
