"""Keeps reference scores and results in the cache folder, by a key of all that decides them."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.engine.scoring import Vocabulary
from pytest_llmperf.engine.token_scores import TokenScores
from pytest_llmperf.quality.figures import QualityResult
from pytest_llmperf.quality.passages import Answer, Passage
from pytest_llmperf.quality.scoring_engine import ReferenceScores
from pytest_llmperf.stored_json import ShapeError, dump, read

#: Layout of the files.
_VERSION = 1
#: Files that were not used for this long are removed.
_UNUSED_DAYS = 60


class QualityStore:
    """Stored reference scores and results.

    A file is written whole or not at all; a file that can't be read counts as missing.

    Args:
        folder: their folder; created when something is stored.

    Attributes:
        notes: remarks about damaged and unwritable files, one line each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes: list[str] = []

    def load_reference(self, key: str) -> ReferenceScores | None:
        """Return the scores stored under this key, or None."""
        data = self._load(self._folder / f"{key}.npz")
        if data is None:
            return None
        try:
            return _reference_of(data)
        except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            self._damaged(f"{key}.npz", error)
            return None

    def save_reference(self, key: str, reference: ReferenceScores) -> None:
        """Store scores; if the folder can't be written to, only time is lost."""
        self._save(f"{key}.npz", _bytes_of(reference))

    def load_result(self, key: str) -> QualityResult | None:
        """Return the result stored under this key, or None."""
        data = self._load(self._folder / f"{key}.json")
        if data is None:
            return None
        try:
            parsed = json.loads(data)
            if parsed.get("version") != _VERSION:
                raise ValueError("another layout")
            return read(QualityResult, parsed["result"])
        except (ShapeError, ValueError, KeyError, AttributeError) as error:
            self._damaged(f"{key}.json", error)
            return None

    def save_result(self, key: str, result: QualityResult) -> None:
        """Store a result."""
        text = json.dumps({"version": _VERSION, "result": dump(result)})
        self._save(f"{key}.json", text.encode())

    def _load(self, file: Path) -> bytes | None:
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._damaged(file.name, error)
            return None
        with suppress(OSError):
            os.utime(file)
        return data

    def _save(self, name: str, content: bytes) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self._folder / name, content)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self.notes.append(f"quality is measured again next time: {self._folder}: {reason}")
            return
        self._sweep()

    def _sweep(self) -> None:
        oldest = time.time() - _UNUSED_DAYS * 86400
        for file in self._folder.iterdir():
            with suppress(OSError):
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def _damaged(self, name: str, error: Exception) -> None:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        self.notes.append(f"{self._folder / name} is damaged and was measured again: {reason}")


def _bytes_of(reference: ReferenceScores) -> bytes:
    import numpy as np

    joined = TokenScores.joined(reference.scores)
    header = {
        "version": _VERSION,
        "vocabulary": asdict(reference.vocabulary),
        "passages": [[passage.first, list(passage.tokens)] for passage in reference.passages],
        "answers": [[list(a.prompt), list(a.tokens), a.longest] for a in reference.answers],
    }
    arrays = {field.name: getattr(joined, field.name) for field in fields(joined)}
    stream = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez_compressed(stream, header=text, **arrays)
    return stream.getvalue()


def _reference_of(data: bytes) -> ReferenceScores:
    """Rebuild scores; invalid data raises the errors of numpy, zipfile and json."""
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        header: dict[str, Any] = json.loads(stored["header"].tobytes())
        if header["version"] != _VERSION:
            raise ValueError("another layout")
        joined = TokenScores(**{field.name: stored[field.name] for field in fields(TokenScores)})
    passages = tuple(Passage(tuple(tokens), first) for first, tokens in header["passages"])
    lengths = [len(passage.tokens) - 1 - passage.first for passage in passages]
    if any(len(getattr(joined, field.name)) != sum(lengths) for field in fields(joined)):
        raise ValueError("positions are missing")
    return ReferenceScores(
        Vocabulary(**header["vocabulary"]),
        passages,
        tuple(_split(joined, lengths)),
        tuple(Answer(tuple(p), tuple(t), longest) for p, t, longest in header["answers"]),
    )


def _split(joined: TokenScores, lengths: Sequence[int]) -> list[TokenScores]:
    parts, start = [], 0
    for length in lengths:
        parts.append(joined.rows(start, start + length))
        start += length
    return parts
