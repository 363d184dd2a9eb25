"""Resolves ``model_path`` to a model file: a local file, an embedded model, or a hub's model."""

from __future__ import annotations

import difflib
from pathlib import Path

from pytest_llmperf.config.embedded import EMBEDDED, find_cached
from pytest_llmperf.config.errors import ModelError
from pytest_llmperf.config.gguf import SplitModelError, check_gguf, gguf_names, model_files
from pytest_llmperf.config.hub import PREFIX, download
from pytest_llmperf.system_path import shown_path, system_path


def resolve_model(model_path: str, base_dir: Path, cache_dir: Path | None = None) -> Path:
    """Return the model file that ``model_path`` names, absolute and checked to be GGUF.

    For a model in several files, return the first; all of them exist.

    An embedded model's name takes precedence over a file of that name (write ``./name``
    for the file). Embedded models are never downloaded here, hub models are.

    Args:
        model_path: a file (``~`` expanded, relative to ``base_dir``), the name of
            an embedded model, or ``hf://owner/repo/file.gguf``.
        base_dir: the configuration file's folder.
        cache_dir: cache folder with the embedded models; None takes the user's.

    Raises:
        ModelError: there is no such model (similar names are suggested), or it is no GGUF file.
    """
    if model_path in EMBEDDED:
        return _embedded(model_path, cache_dir)
    if model_path.startswith(PREFIX):
        return _checked(download(model_path).absolute(), model_path)
    if "://" in model_path:
        scheme = model_path.partition("://")[0]
        text = f"{scheme}:// is not supported; use hf://owner/repo/file.gguf or a local file"
        raise ModelError(model_path, text)
    path = (base_dir / _expanded(model_path)).absolute()
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise ModelError(model_path, f"not a usable path: {error}") from None
    if not exists:
        raise ModelError(model_path, f"no such file: {shown_path(path)}{_near(model_path, path)}")
    return _checked(path, model_path)


def _checked(first: Path, model_path: str) -> Path:
    """Return ``first`` if it and all other files of the model exist and start as GGUF."""
    check_gguf(first, model_path)
    try:
        files = model_files(first)
    except SplitModelError as error:
        raise ModelError(model_path, str(error)) from None
    missing = [file.name for file in files if not file.exists()]
    if missing:
        one = len(missing) == 1
        names = f"{missing[0]} is" if one else f"{missing[0]} and {len(missing) - 1} more are"
        folder = shown_path(first.parent)
        text = f"the model is in {len(files)} files, of which {names} missing in {folder}"
        raise ModelError(model_path, f"{text}; put {'it' if one else 'them'} beside the first")
    for file in files[1:]:
        check_gguf(file, model_path)
    return first


def _embedded(name: str, cache_dir: Path | None) -> Path:
    cached = find_cached(name, cache_dir)
    if cached is None:
        text = f"this embedded model is not in the cache yet; run: llmperf model {name}"
        raise ModelError(name, text)
    return cached


def _expanded(model_path: str) -> Path:
    try:
        return system_path(model_path).expanduser()
    except RuntimeError:
        text = "the home directory of this user is unknown; write the whole path"
        raise ModelError(model_path, text) from None


def _near(model_path: str, path: Path) -> str:
    """Return suggestions: similar names of embedded models, similar files, or any model files."""
    hints = []
    if near := difflib.get_close_matches(model_path.lower(), EMBEDDED, n=1):
        hints.append(f"did you mean the embedded model {near[0]!r}?")
    folder = path.parent
    if not folder.is_dir():
        hints.append(f"there is no folder {folder}")
    else:
        names = sorted(shown_path(child.name) for child in folder.iterdir() if child.is_file())
        close = difflib.get_close_matches(shown_path(path.name), names, n=3)
        if close:
            hints.append(f"did you mean {' or '.join(map(repr, close))}?")
        elif models := gguf_names(folder):
            hints.append(f"models in {folder}: {', '.join(models)}")
    hints.append(f"embedded models: {', '.join(EMBEDDED)}")
    return "".join(f"; {hint}" for hint in hints)
