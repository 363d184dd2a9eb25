"""The stand-in NVIDIA library, built once, and a stand-in card for every test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in_card import Card, build

Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def card(nvml_folder: Path, tmp_path: Path) -> Card:
    return Card(nvml_folder, tmp_path)


@pytest.fixture
def ask_nvml(card: Card) -> Ask:
    """Evaluate an expression over our modules in a process whose driver answers ``scenario``."""

    def ask(expression: str, scenario: str, **environ: str) -> Any:
        card.set(scenario)
        return card.run(f"answer({expression})", **environ)

    return ask
