"""Pairs of earlier sessions that measured the very same two things: evidence that adds up."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf.measure.samples import ProcessSample

#: Older evidence is forgotten, seconds: a machine does not stay what it was.
KEPT_FOR = 30 * 24 * 3600.0


class KeptPairs:
    """One file of pairs per comparison, in ``folder``; what can't be written is not kept.

    A comparison is named by everything that could make it another one: the code,
    environment, settings and model of either arm, the work, and the machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, identity: Mapping[str, Any]) -> list[ProcessSample]:
        """Return the samples of every earlier pair, numbered from 0."""
        found: list[ProcessSample] = []
        try:
            text = self._file(identity).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return []
        for line in text.splitlines():
            # What a killed session left half-written is no pair.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                data = json.loads(line)
                if time.time() - data["at"] <= KEPT_FOR:
                    pair = len(found) // 2
                    found += [ProcessSample.from_json(half, pair) for half in data["pair"]]
        return found

    def add(self, identity: Mapping[str, Any], halves: Sequence[ProcessSample]) -> None:
        """Keep one valid pair."""
        data = {"at": time.time(), "pair": [sample.to_json() for sample in halves]}
        # Begun anew, so that a line that was cut off spoils itself alone.
        line = "\n" + json.dumps(data) + "\n"
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._file(identity), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)

    def sweep(self) -> None:
        """Remove files that nothing was added to for longer than evidence is kept."""
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if file.suffix == ".jsonl" and time.time() - file.stat().st_mtime > KEPT_FOR:
                    file.unlink()

    def _file(self, identity: Mapping[str, Any]) -> Path:
        text = json.dumps(identity, sort_keys=True, default=str)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.jsonl"
