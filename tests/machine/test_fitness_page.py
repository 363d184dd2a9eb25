"""The page about fitness names every check as the registry has it."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_llmperf.fitness_checks import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "fitness.md"


def test_the_page_has_a_row_for_every_check_and_for_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(
        (check.name, check.doing, check.severity) for check in CHECKS.values()
    )
