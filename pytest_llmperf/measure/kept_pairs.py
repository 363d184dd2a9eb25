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
        #: What can't be used of the files that were loaded, a message for each.
        self.problems: list[str] = []

    def load(self, identity: Mapping[str, Any]) -> list[ProcessSample]:
        """Return the samples of every earlier pair, numbered from 0.

        What can't be used does not count, and is named in ``problems``.
        """
        return self.read(self._file(identity))

    def read(self, file: Path) -> list[ProcessSample]:
        """Return the samples of every pair in a file, as ``load`` does."""
        found: list[ProcessSample] = []
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            self._tell(file, f"can't be read ({reason.lower()}); its pairs do not count")
            return []
        unusable: dict[int, str] = {}
        for number, line in enumerate(lines, 1):
            # What a killed session left half-written is no pair, and no surprise.
            with contextlib.suppress(ValueError, RecursionError):
                data = json.loads(line)
                try:
                    found += _pair(data, len(found) // 2)
                except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
                    unusable[number] = _why(error)
        if unusable:
            (first, why), *others = unusable.items()
            more = f", and {len(others)} more lines" if others else ""
            self._tell(file, f"line {first} is no pair that can be used ({why}){more}; not counted")
        return found

    def _tell(self, file: Path, what: str) -> None:
        self.problems.append(f"{file}: {what}. To start this evidence again, remove the file")

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


def _pair(data: Any, number: int) -> list[ProcessSample]:
    """Return the two samples of a kept pair; none of one that is too old.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, ArithmeticError: it is no pair.
    """
    age = time.time() - data["at"]
    one, other = (ProcessSample.from_json(half, number) for half in data["pair"])
    if one.arm == other.arm:
        raise ValueError("both are of one side")
    return [one, other] if abs(age) <= KEPT_FOR else []


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    text = str(error) if isinstance(error, ValueError) else "a value of another kind"
    return text[:80]
