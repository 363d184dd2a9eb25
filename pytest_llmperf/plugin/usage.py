"""The error that ends a session before it measures: our name first, and safe on a terminal."""

from __future__ import annotations

import pytest

from pytest_llmperf.text import printable_lines


def usage_error(text: str) -> pytest.UsageError:
    """Return the error with this message; control characters of names are shown as escapes."""
    return pytest.UsageError(f"llmperf: {printable_lines(text)}")
