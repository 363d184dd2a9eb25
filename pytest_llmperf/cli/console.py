"""Console of a session that a command runs itself: prints lines, but no progress of rounds."""

from __future__ import annotations

from collections.abc import Callable

from pytest_llmperf.session.context import SilentConsole


class LineConsole(SilentConsole):
    """Console that shows only lines.

    Args:
        show: prints a line.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def line(self, text: str) -> None:
        """Show one line."""
        self._show(text)
