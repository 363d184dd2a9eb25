"""The tools that make the documentation, on the path of its tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools")]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
