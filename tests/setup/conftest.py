"""A cache folder and a package index of their own for the tests of the set-up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "benchmarks")]

from standin_index import make_standin_index  # noqa: E402


@pytest.fixture
def root():
    return ROOT


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache with space"


@pytest.fixture
def standin_index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    folder.mkdir()
    make_standin_index(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    for name in ("CMAKE_ARGS", "CMAKE_ARGS_EXTRA"):
        monkeypatch.delenv(name, raising=False)
    return folder
