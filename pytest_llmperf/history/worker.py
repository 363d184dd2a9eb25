"""Reads records and looks for change points; as a process of its own, what it is asked to."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_llmperf.history.change_points import change_points
from pytest_llmperf.history.digest import Digester
from pytest_llmperf.history.helper import receive, send
from pytest_llmperf.history.objects import ObjectReader
from pytest_llmperf.history.sessions import Sessions, to_bytes
from pytest_llmperf.history.work_tree import checked_out
from pytest_llmperf.metrics import get_metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RecordReader:
    """Reads records and knows the kinds of them it has seen; a context manager.

    What does not lie in the work tree is asked of one git.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._objects: ObjectReader | None = None
        self._digester = Digester()

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._objects is not None:
            self._objects.__exit__()

    def read(self, wanted: Sequence[tuple[str, str]]) -> Sessions:
        """Read and digest records: blobs, and where each one lies from the work tree's top.

        Raises:
            GitError: git cannot be run, or ended early.
        """
        top, packed = str(self._top), []
        for blob, path in wanted:
            text = checked_out(top, path, blob)
            if text is None:
                packed.append(blob)
            else:
                self._digester.add(blob, text)
        if packed:
            self._objects = self._objects or ObjectReader(self._top)
            for blob, content in zip(packed, self._objects.read(packed), strict=True):
                self._digester.add(blob, content)
        return self._digester.finish()


def search(series: Sequence[tuple[str, int]], values: bytes) -> list[list[tuple[float, ...]]]:
    """Look for change points in series of (metric, number of sessions), one after another."""
    found, start = [], 0
    numbers = np.frombuffer(values, np.float64)
    for name, count in series:
        changes = change_points(numbers[start : start + count], get_metric(name))
        found.append([tuple(vars(change).values()) for change in changes])
        start += count
    return found


def main() -> int:
    """Serve until nobody asks any more; status 1 if something could not be done."""
    # Parsed JSON has no cycles, and looking for some takes as long as parsing it.
    gc.disable()
    reader: RecordReader | None = None
    try:
        while (received := receive(sys.stdin.buffer)) is not None:
            asked, payload = received
            if asked["do"] == "read":
                reader = reader or RecordReader(Path(asked["top"]))
                send(sys.stdout.buffer, {}, to_bytes(reader.read(asked["wanted"])))
            else:
                said: Mapping[str, Any] | list[Any] = search(asked["series"], payload)
                send(sys.stdout.buffer, {}, json.dumps(said).encode("ascii"))
    except (Exception, KeyboardInterrupt):  # whoever asked does it, and finds the same
        return 1
    return 0
