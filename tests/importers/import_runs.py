"""Helpers of this folder's tests: commands, files to import, and stored sessions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command_outputs import Output

from pytest_llmperf.baselines.files import read_record
from pytest_llmperf.baselines.record import BaselineRecord

DATA = Path(__file__).parent / "data"


#: Runs ``llmperf`` with the given words in the test's own folder.
Command = Callable[..., Output]


def stored(folder: Path = Path("base")) -> list[BaselineRecord]:
    """Return the sessions in a folder of baselines, in the order of their paths."""
    return [read_record(path) for path in sorted(folder.rglob("*.json"))]


def value(record: BaselineRecord, test: str, metric: str) -> list[list[float]]:
    """Return a test's samples: runs x repetitions."""
    return [list(run) for run in record.tests[test].metrics[metric].samples]


def changed(name: str, path: Path, change: Callable[[Any], Any]) -> Path:
    """Write a changed copy of a JSON file, and return its path."""
    data = json.loads((DATA / name).read_text())
    replacement = change(data)
    path.write_text(json.dumps(data if replacement is None else replacement))
    return path
