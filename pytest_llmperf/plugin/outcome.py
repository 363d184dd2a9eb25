"""Turns a held report into a pass or an ordinary pytest failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class _Crash:
    """What summaries and JUnit read of a failure: where, and one line of what."""

    path: str
    lineno: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.lineno}: {self.message}"


class VerdictRepr:
    """A failure without a traceback: the text is the whole story."""

    def __init__(self, text: str, crash: _Crash) -> None:
        self._text = text
        self.reprcrash = crash

    def __str__(self) -> str:
        return self._text

    def toterminal(self, writer: Any) -> None:
        """Write the text; lines that name a failed metric stand out."""
        for line in self._text.splitlines():
            writer.line(line, red=line.startswith(("regressed", "missed", "error", "invalid")))


def fail_report(
    report: pytest.TestReport, text: str, item: pytest.Item, summary: str | None = None
) -> None:
    """Make a report of a passed body a failure, or the expected one of an xfail test.

    Args:
        report: the held report of the body.
        text: what the failure says.
        item: the test.
        summary: one line for the short summary; the first line of ``text`` by default.
    """
    if hasattr(report, "wasxfail") or str(report.longrepr).startswith("[XPASS(strict)]"):
        mark = item.get_closest_marker("xfail")
        reason = mark.kwargs.get("reason", "") if mark is not None else ""
        report.wasxfail = getattr(report, "wasxfail", "") or f"reason: {reason}"
        report.outcome = "skipped"
        return
    path, line, _ = item.location
    crash = _Crash(path, (line or 0) + 1, summary or text.splitlines()[0])
    report.outcome = "failed"
    # pytest reads a failure's representation by these two names only.
    report.longrepr = VerdictRepr(text, crash)  # type: ignore[assignment]
