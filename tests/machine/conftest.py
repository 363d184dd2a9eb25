"""A stand-in NVIDIA card, and questions to our modules about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stand_in_card import Card, card, nvml_folder

#: Fixtures from elsewhere.
__all__ = ["card", "nvml_folder"]

Ask = Callable[..., Any]


@pytest.fixture
def ask_nvml(card: Card) -> Ask:
    """Evaluate an expression over our modules in a process whose driver answers ``scenario``."""

    def ask(expression: str, scenario: str, **environ: str) -> Any:
        card.set(scenario)
        return card.run(f"answer({expression})", **environ)

    return ask
