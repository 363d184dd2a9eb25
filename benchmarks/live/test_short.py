"""One short perf test, to see the gate at work on a real machine: docs/calibration.md."""

from typing import Any

import pytest


@pytest.mark.perf(tolerance="5%")
def test_short(llm_engine: Any) -> None:
    """Ask for 32 tokens."""
    llm_engine.generate(
        "Explain in one paragraph why a small language model can run on a laptop.", max_tokens=32
    )
