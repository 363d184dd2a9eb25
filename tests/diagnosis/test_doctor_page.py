"""docs/doctor.md names every cause, as the registry does."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_llmperf.diagnosis.registry import CAUSES

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def test_the_table_of_causes_is_the_registry() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(cause.name, cause.title) for cause in CAUSES]
