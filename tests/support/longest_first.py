"""An order for tests that several processes share: the longest files do not come last."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

ROOT = Path(__file__).parents[2]
#: Test files that take a minute or more. Neighbours in the list run at the same time: files that
#: compute beside files that mostly wait.
LONGEST = (
    "tests/bisect/test_bisect_command.py",
    "tests/tune/test_tune_servers.py",
    "tests/ci/test_walkthrough.py",
    "tests/bisect/test_bisect_of_servers.py",
    "tests/tune/test_tune_command.py",
    "tests/calibration/test_calibrate_command.py",
    "tests/cli/test_max_rate.py",
    "tests/tune/test_tune_story.py",
    "tests/plugin/test_load_sessions.py",
    "tests/diagnosis/test_doctor_of_servers.py",
    "tests/tune/test_tune_postgresql.py",
    "tests/api/test_python_api.py",
)


class _Item(Protocol):
    """The attribute of a pytest item that decides its place in the order."""

    path: Path


ItemT = TypeVar("ItemT", bound=_Item)


def longest_first(items: Sequence[ItemT], workers: int) -> list[ItemT]:
    """Return the tests ordered so that each worker's share starts with some of the longest files.

    pytest-xdist's worksteal gives each worker an equal part of the list, one after the other, and
    a worker that is done takes tests from the end of another's part.
    """
    files: dict[str, list[ItemT]] = {file: [] for file in LONGEST}
    others = []
    for item in items:
        files.get(os.path.relpath(item.path, ROOT), others).append(item)
    ordered: list[ItemT] = []
    for worker in range(workers):
        size = (len(items) - len(ordered)) // (workers - worker)
        first = [item for file in LONGEST[worker::workers] for item in files[file]]
        count = max(size - len(first), 0)
        ordered += first + others[:count]
        del others[:count]
    return ordered + others
