"""Outcomes of long benchmarks, one JSON object a line, with which a later run can continue."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Outcomes:
    """Outcomes of jobs under the same conditions, kept in a file if one is given.

    Args:
        file: where they are appended; None keeps none.
        conditions: what distinguishes them from others in the same file.
    """

    def __init__(self, file: Path | None, conditions: Mapping[str, Any]) -> None:
        self._file = file
        self._conditions = dict(conditions)
        #: Outcomes of earlier runs and of this run, in order.
        self.all: list[dict[str, Any]] = []
        if file is not None and file.exists():
            lines = file.read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines if line.endswith("}")]
            self.all += [row["outcome"] for row in rows if row["conditions"] == self._conditions]

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Keep one more outcome."""
        self.all.append(dict(outcome))
        if self._file is not None:
            line = json.dumps({"conditions": self._conditions, "outcome": outcome})
            with self._file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    @staticmethod
    def add_argument(parser: argparse.ArgumentParser) -> None:
        """Add the option ``--file``."""
        parser.add_argument(
            "--file", type=Path, help="append every outcome here, and go on where the file ends"
        )
