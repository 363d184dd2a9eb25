"""Synthetic models: the shapes and types of a published model or a file, with random weights."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.gguf import model_files
from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.models.blueprint import Blueprint, Value
from pytest_llmperf.models.file_types import FileType, choose_types, file_type, renamed
from pytest_llmperf.models.model_output import WrittenModel, check_room, check_target, writing_model
from pytest_llmperf.models.presets import PRESETS, preset_blueprint

#: For presets; a model made like a file keeps the file's own types.
DEFAULT_QUANTIZATION = "Q4_K_M"
_MAX_LAYERS = 512
#: Version of the layout of blocks: GGML_QNT_VERSION.
_QUANTIZATION_VERSION = 2


def default_file_name(like: str, quantization: str | None, layers: int | None = None) -> str:
    """Return a descriptive file name for a synthetic model."""
    if like.lower() in PRESETS:
        stem = f"{like.lower()}-{quantization or DEFAULT_QUANTIZATION}"
    else:
        stem = renamed(Path(like).stem, quantization) if quantization else Path(like).stem
    return f"{stem}{f'-{layers}-layers' if layers else ''}-synthetic.gguf"


def synthesize(
    like: str,
    quantization: str | None,
    target: Path,
    *,
    layers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _whole: None,
) -> WrittenModel:
    """Write a model that loads and generates as fast as the real one, but generates nonsense.

    Args:
        like: a preset's name, or anything that ``model_path`` accepts.
        quantization: of the file; None: Q4_K_M for a preset, or a copied file's own types.
        target: the file to write.
        layers: number of layers, if not the original's.
        overwrite: replace an existing file.
        progress: called with the bytes written so far, and the total.

    Raises:
        ModelError: there is no such preset or file, it can't be copied, or ``target`` can't be
            written; also if the package ``gguf`` is missing.
        UnknownFileTypeError: there is no such quantization.
    """
    start = time.monotonic()
    name, chosen = file_type(quantization) if quantization else ("", None)
    check_target(like, target, overwrite=overwrite)
    blueprint = _blueprint(like, layers)
    if chosen is None and like.lower() in PRESETS:
        name, chosen = file_type(DEFAULT_QUANTIZATION)
    if chosen is not None:
        blueprint = _quantized(blueprint, chosen)
    _write(like, blueprint, target, progress)
    return WrittenModel(name, target, target.stat().st_size, time.monotonic() - start)


def _blueprint(like: str, layers: int | None) -> Blueprint:
    if layers is not None and not 1 <= layers <= _MAX_LAYERS:
        raise ModelError(like, f"expected 1 to {_MAX_LAYERS} layers, got {layers}")
    preset = PRESETS.get(like.lower())
    _require_gguf(like)
    if preset is not None:
        return preset_blueprint(preset, f"{like.lower()} synthetic", layers)
    return _file_blueprint(like, layers)


def _require_gguf(like: str) -> None:
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        text = f"the package gguf, which writes such files, can't be imported ({error})"
        fix = "pip install 'pytest-llmperf[models]'"
        raise ModelError(like, f"{text}; run: {fix}") from None


def _file_blueprint(like: str, layers: int | None) -> Blueprint:
    from pytest_llmperf.models.gguf_files import UnreadableModelError, first_layers, read_blueprint

    try:
        files = model_files(resolve_model(like, Path.cwd()))
        blueprint = read_blueprint(files)
    except ModelError as error:
        near = difflib.get_close_matches(like.lower(), PRESETS, n=1)
        hints = [f"did you mean the preset {near[0]}?"] if near else []
        hints.append(f"presets: {', '.join(PRESETS)}")
        raise ModelError(
            like, "\n  ".join([f"neither a preset nor a file: {error}", *hints])
        ) from None
    except (UnreadableModelError, OSError) as error:
        raise ModelError(like, str(error)) from None
    has = blueprint.number("block_count")
    if layers is not None and layers > has:
        raise ModelError(like, f"it has only {has} layers; {layers} were requested")
    name = Value.of(f"{files[0].stem} synthetic")
    named = replace(blueprint, metadata={**blueprint.metadata, "general.name": name})
    return named if layers is None else first_layers(named, layers)


def _quantized(blueprint: Blueprint, chosen: FileType) -> Blueprint:
    heads = blueprint.number("attention.head_count", 1)
    tensors = choose_types(
        blueprint.tensors,
        chosen,
        layers=blueprint.number("block_count"),
        experts=blueprint.number("expert_count"),
        sharing=heads // max(1, blueprint.number("attention.head_count_kv", heads)),
    )
    own = {
        "general.file_type": Value.of(chosen.number),
        "general.quantization_version": Value.of(_QUANTIZATION_VERSION),
    }
    return replace(blueprint, metadata={**blueprint.metadata, **own}, tensors=tensors)


def _write(
    like: str, blueprint: Blueprint, target: Path, progress: Callable[[int, int], None]
) -> None:
    from pytest_llmperf.models.blocks import RANDOM_TYPES, tensor_bytes
    from pytest_llmperf.models.gguf_files import write_blueprint

    for tensor in blueprint.tensors:
        if tensor.data is None and tensor.kind not in RANDOM_TYPES:
            text = f"{tensor.name} is {tensor.kind}, which can't be filled with random weights"
            raise ModelError(like, f"{text}; choose a quantization: --quant {DEFAULT_QUANTIZATION}")
    check_room(like, target, sum(map(tensor_bytes, blueprint.tensors)))
    with writing_model(like, target) as temporary:
        write_blueprint(temporary, blueprint, progress)
