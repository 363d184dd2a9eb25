"""Usage errors of this plugin: prefixed with its name, and safe on a terminal."""

from __future__ import annotations

import pytest

from pytest_llmperf.text import printable_lines


def usage_error(text: str) -> pytest.UsageError:
    """Return the error with this message; control characters are escaped."""
    return pytest.UsageError(f"llmperf: {printable_lines(text)}")
