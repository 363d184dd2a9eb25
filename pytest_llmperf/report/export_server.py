"""The engine's settings as a command that starts llama-server.

Source of the options: llama.cpp's ``common/arg.cpp``, as in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.config.hub import HubFile
from pytest_llmperf.config.model_files import uses_mmap
from pytest_llmperf.report.export_common import LIMITS, comments, layers, not_set
from pytest_llmperf.text import shell_word

_LOAD_MODES = {(False, False): "none", (False, True): "mlock", (True, True): "mmap+mlock"}
_ROPE_SCALING = {0: "none", 1: "linear", 2: "yarn"}
_NUMA = {1: "distribute", 2: "isolate", 3: "numactl"}
#: Numeric arguments of ``Llama`` -> options of llama-server.
_NUMBERS = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        "rope_freq_base",
        "rope_freq_scale",
        "yarn_ext_factor",
        "yarn_attn_factor",
        "yarn_beta_fast",
        "yarn_beta_slow",
        "yarn_orig_ctx",
    )
}


def llama_server(settings: Mapping[str, Any], file: str, hub: HubFile | None) -> Iterator[str]:
    """Yield comments, then the lines of a shell command."""
    options = list(_server_options(settings, file, hub))
    extra, missing = _server_extra(settings["extra"])
    notes = [*_server_notes(settings, hub), *(not_set(name, settings) for name in missing)]
    yield "# Settings for llama-server."
    yield from comments(notes)
    lines = [" ".join(map(shell_word, words)) for words in (*options, *extra)]
    yield " \\\n  ".join(["llama-server", *lines])


def _server_options(
    settings: Mapping[str, Any], file: str, hub: HubFile | None
) -> Iterator[tuple[str, ...]]:
    yield ("-m", file) if hub is None else ("-hf", hub.repo, "-hff", hub.file)
    for option, key in (
        ("-c", "n_ctx"),
        ("-b", "n_batch"),
        ("-ub", "n_ubatch"),
        ("-t", "n_threads"),
        ("-tb", "n_threads_batch"),
        ("-n", "max_tokens"),
        ("-s", "seed"),
    ):
        yield option, str(settings[key])
    # The context is measured with one request at a time.
    yield "-np", "1"
    yield "-ngl", str(layers(settings))
    yield "-fa", "on" if settings["flash_attn"] else "off"
    for option, key, default in (
        ("-ctk", "type_k", None),
        ("-ctv", "type_v", None),
        ("-sm", "split_mode", "layer"),
        ("-mg", "main_gpu", 0),
    ):
        if settings[key] != default:
            yield option, str(settings[key])
    if settings["tensor_split"] is not None:
        yield "-ts", ",".join(f"{share:g}" for share in settings["tensor_split"])
    if not settings["offload_kqv"]:
        yield ("-nkvo",)
    if mode := _load_mode(settings):
        yield "--load-mode", mode


def _server_notes(settings: Mapping[str, Any], hub: HubFile | None) -> Iterator[str]:
    if mode := _load_mode(settings):
        old = {"none": "--no-mmap", "mlock": "--no-mmap --mlock", "mmap+mlock": "--mlock"}[mode]
        yield f"Builds before --load-mode take: {old}"
    if hub is not None and hub.revision is not None:
        yield f"Revision {hub.revision} of the model can't be named; this takes the newest."
    if settings["chat_format"] is not None:
        name = settings["chat_format"]
        yield f"chat_format: {name} is a name of llama-cpp-python; see --chat-template"
    yield LIMITS


def _server_extra(extra: Mapping[str, Any]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the options for ``llm.extra``, and the keys that have none."""
    options: list[tuple[str, ...]] = []
    missing: list[str] = []
    for key, value in extra.items():
        option = _server_option(key, value, extra)
        if option is None:
            missing.append(key)
        elif option:
            options.append(option)
    return options, missing


def _server_option(key: str, value: Any, extra: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the option for one argument of ``Llama``: () for a default, None if it has none."""
    if value is None:
        return ()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _NUMBERS and number:
        return _NUMBERS[key], repr(value)
    if key == "rope_scaling_type" and value == -1:
        return ()
    if key == "rope_scaling_type" and isinstance(value, int) and value in _ROPE_SCALING:
        return "--rope-scaling", _ROPE_SCALING[value]
    if key == "numa" and value in (0, *_NUMA):
        return ("--numa", _NUMA[int(value)]) if value else ()
    if key == "op_offload":
        return ("--op-offload",) if value else ("--no-op-offload",)
    if key == "swa_full":
        return ("--swa-full",) if value else ()
    if key == "kv_overrides" and isinstance(value, Mapping) and (overrides := _kv_overrides(value)):
        return "--override-kv", overrides
    if key == "lora_scale" and extra.get("lora_path"):
        return ()  # written with lora_path
    if key == "lora_path" and not set(str(value)) & set(',:"'):
        path, scale = str(Path(value).absolute()), extra.get("lora_scale", 1.0)
        return ("--lora", path) if scale == 1.0 else ("--lora-scaled", f"{path}:{scale!r}")
    return None


def _kv_overrides(values: Mapping[str, Any]) -> str:
    """Return metadata overrides in llama-server's notation; empty if they can't be expressed."""
    names = {bool: "bool", int: "int", float: "float", str: "str"}
    parts = []
    for key, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if type(value) not in names or set(f"{key}{text}") & set(',"'):
            return ""
        parts.append(f"{key}={names[type(value)]}:{text}")
    return ",".join(parts)


def _load_mode(settings: Mapping[str, Any]) -> str | None:
    """Return llama-server's ``--load-mode``; None for its default, which maps the file."""
    return _LOAD_MODES.get((uses_mmap(settings), bool(settings["use_mlock"])))
