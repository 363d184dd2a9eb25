"""Names in ``llmperf history --csv``: no raw control characters and no spreadsheet formulas."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from history_projects import FOLDER, Project
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.report.history_export import csv_text

ESCAPES = "tests/test_x.py::test_\x1b[31mred\x07\u202e[a\nb]"
FORMULA = "=cmd|' /C calc'!A0"


def test_names_are_escaped_and_no_formulas(project: Project, show: Any) -> None:
    project.commit({"app.py": "1"})
    for number in range(2):
        project.record(number, names=(ESCAPES, FORMULA))
    out = show("--dir", FOLDER, "--csv", "--metric", "tokens_per_sec").out
    assert all(character.isprintable() or character == "\n" for character in out)
    tests = [row["test"] for row in csv.DictReader(io.StringIO(out))]
    assert tests == [
        *[f"'{FORMULA}"] * 2,
        *[r"tests/test_x.py::test_\x1b[31mred\x07\u202e[a\nb]"] * 2,
    ]


@pytest.mark.parametrize("lead", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
def test_what_begins_a_formula_is_text(lead: str) -> None:
    assert csv_text(f"{lead}1+1") == f"'{lead}1+1"


@given(st.text())
def test_any_name_is_safe(name: str) -> None:
    cell = csv_text(name)
    assert not cell.startswith(("=", "+", "-", "@"))
    assert cell.isprintable() or any(c.isspace() for c in cell)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in cell)
