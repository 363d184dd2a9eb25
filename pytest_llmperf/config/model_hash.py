"""The SHA-256 of a large file, computed once per file and remembered in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.config.embedded import cache_dir, sha256_of


def file_sha256(file: Path, cache: Path | None = None) -> str:
    """Return the file's SHA-256 in hex; reads the file only if it changed since the last time.

    Size, modification time and inode show whether it changed. If the cache folder
    can't be written, the file is hashed again each time.

    Raises:
        OSError: the file can't be read.
    """
    seen = _marks(file)
    path = str(file.resolve())
    name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
    note = (cache or cache_dir()) / "hashes" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["seen"] == seen:
            return str(known["sha256"])
    digest = sha256_of(file)
    if _marks(file) != seen:
        # It was written to meanwhile: the next call reads it again.
        return digest
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, json.dumps({"sha256": digest, "seen": seen}))
    return digest


def _marks(file: Path) -> dict[str, int]:
    """Return the file attributes that change with its content."""
    stat = file.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}
