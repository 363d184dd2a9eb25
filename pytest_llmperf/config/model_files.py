"""The files that determine what a configured engine computes, and their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.config.embedded import file_sha256
from pytest_llmperf.config.gguf import model_files

#: An engine argument whose texts are metadata, never files.
_METADATA = "kv_overrides"


@dataclass(frozen=True)
class ModelFiles:
    """A model's files, and other files that the engine gets (an adapter, a draft model).

    Attributes:
        parts: files of the model; the engine is given the first.
        others: each other file, as (setting that names it, file).
    """

    parts: tuple[Path, ...]
    others: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def of(
        cls, model: Path, extra: Mapping[str, Any] | None = None, folder: Path = Path()
    ) -> ModelFiles:
        """Find the files of a model that ``resolve_model`` found.

        Args:
            model: the first file.
            extra: ``llm.extra``; every text in it that names an existing file counts.
            folder: the engine's working directory, the base of relative names.

        Raises:
            SplitModelError, OSError: ``model`` has changed since it was found.
        """
        named = {name: value for name, value in (extra or {}).items() if name != _METADATA}
        others = [
            (setting, file)
            for setting, text in _texts(named, "extra")
            if _is_file(file := folder / text)
        ]
        return cls(model_files(model), tuple(others))

    @property
    def first(self) -> Path:
        """The file to pass to the engine as ``model_path``."""
        return self.parts[0]

    @property
    def size_bytes(self) -> int:
        """Total size of all parts of the model, bytes."""
        return sum(file.stat().st_size for file in self.parts)

    def sha256(self, cache: Path | None = None) -> str:
        """Return one SHA-256 in hex over the contents of all files; file names don't count.

        For a model in a single file without other files it is that file's hash.

        Raises:
            OSError: a file can't be read.
        """
        hashes = [file_sha256(file, cache) for file in self.parts]
        hashes += [f"{setting} {file_sha256(file, cache)}" for setting, file in self.others]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _texts(value: Any, setting: str) -> Iterator[tuple[str, str]]:
    """Yield every text in plain JSON types, with the dotted setting that holds it."""
    if isinstance(value, str):
        yield setting, value
    elif isinstance(value, Mapping):
        for name, inner in sorted(value.items()):
            yield from _texts(inner, f"{setting}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{setting}.{number}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # The text is too long or has a zero byte, so it is not meant as a file name.
        return False


def uses_mmap(settings: Mapping[str, Any]) -> bool:
    """Whether llama-cpp-python maps the model file; with an adapter it never does."""
    return bool(settings["use_mmap"]) and settings["extra"].get("lora_path") is None
