"""Commands of this folder's tests, and the files that they import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pytest_llmperf.baselines.files import read_record
from pytest_llmperf.baselines.record import BaselineRecord

DATA = Path(__file__).parent / "data"


class Output(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """The output with its line breaks as spaces."""
        return " ".join(self.out.split())


#: Runs ``llmperf`` with these words in the test's own folder.
Command = Callable[..., Output]


def stored(folder: Path = Path("base")) -> list[BaselineRecord]:
    """The sessions in a folder of baselines, by path."""
    return [read_record(path) for path in sorted(folder.rglob("*.json"))]


def value(record: BaselineRecord, test: str, metric: str) -> list[list[float]]:
    """A test's samples: runs x repetitions."""
    return [list(run) for run in record.tests[test].metrics[metric].samples]


def changed(name: str, path: Path, change: Callable[[Any], Any]) -> Path:
    """Write a changed copy of a file of one JSON document."""
    data = json.loads((DATA / name).read_text())
    made = change(data)
    path.write_text(json.dumps(data if made is None else made))
    return path
