"""Edits of recorded sessions: other samples, and one session a day."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any


def scale_samples(factor: float, *metrics: str) -> Callable[[dict[str, Any]], None]:
    """Return an edit that multiplies a baseline's samples of these metrics (default: all)."""

    def change(record: dict[str, Any]) -> None:
        for test in record["tests"].values():
            for name, metric in test["metrics"].items():
                if not metrics or name in metrics:
                    metric["samples"] = [[v * factor for v in row] for row in metric["samples"]]

    return change


def store_daily(
    file: Path,
    factors: Sequence[float],
    *metrics: str,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
) -> list[str]:
    """Replace a recorded session by one a day, with samples of these metrics times a factor.

    Returns the names of their files.
    """
    text = file.read_text()
    file.unlink()
    names = []
    for number, factor in enumerate(factors):
        record = json.loads(text)
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number)
        record["recorded"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        change(record)
        scale_samples(factor, *metrics)(record)
        names.append(f"{moment:%Y%m%dT%H%M%SZ}_{number}.json")
        file.with_name(names[-1]).write_text(json.dumps(record))
    return names
