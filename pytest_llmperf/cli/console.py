"""Output of a session that a command runs itself: its lines, and no progress of its rounds."""

from __future__ import annotations

from collections.abc import Callable

from pytest_llmperf.session.context import SilentConsole


class LineConsole(SilentConsole):
    """Shows lines only.

    Args:
        show: prints a line.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def line(self, text: str) -> None:
        """Show one line."""
        self._show(text)
