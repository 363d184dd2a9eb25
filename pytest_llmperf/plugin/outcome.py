"""Turns a held report into a pass, a pass with a warning, or an ordinary pytest failure."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.text import printable, printable_lines

#: How pytest's report of a strict xfail test begins when its body passed.
STRICT_XPASS = "[XPASS(strict)]"


class LlmperfWarning(UserWarning):
    """A perf test passed, but something about it is not proven."""


@dataclass(frozen=True)
class _Crash:
    """Location and one-line message of a failure, for summaries and JUnit."""

    path: str
    lineno: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.lineno}: {self.message}"


class VerdictRepr:
    """A failure without a traceback, shown as its text only."""

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
    """Turn the report of a passed body into a failure, or an expected one for xfail.

    Args:
        report: the held report of the body.
        text: the failure's text.
        item: the test.
        summary: one line for the short summary; the first line of ``text`` by default.
    """
    path, line, _ = item.location
    text = printable_lines(text)
    crash = _Crash(path, (line or 0) + 1, printable(summary or text.splitlines()[0]))
    strict = str(report.longrepr).startswith(STRICT_XPASS)
    # A failing verdict is no exception, so it can't match xfail(raises=...).
    waits = any("raises" in mark.kwargs for mark in item.iter_markers("xfail"))
    if (strict or hasattr(report, "wasxfail")) and not waits:
        reason = str(report.longrepr).removeprefix(STRICT_XPASS).strip() if strict else ""
        report.wasxfail = getattr(report, "wasxfail", reason)
        report.outcome = "skipped"
    else:
        report.outcome = "failed"
        vars(report).pop("wasxfail", None)
    # pytest reads a failure's representation by these two names only.
    report.longrepr = VerdictRepr(text, crash)  # type: ignore[assignment]


def undecided_text(verdicts: Sequence[Verdict]) -> str:
    """Return one warning about a passing test's undecided checks; empty if there are none."""
    claims = "; ".join(
        f"{verdict.check.metric.label}: {reason.claim}"
        for verdict in verdicts
        for reason in verdict.reasons
        if reason.kind is VerdictKind.INCONCLUSIVE
    )
    return claims and f"inconclusive, {claims} (--llmperf-strict fails this)"


def add_warning(item: pytest.Item, text: str) -> None:
    """Add a test's warning to pytest's summary and count, like a captured one.

    It does not go through Python's warnings, so ``-W error`` can't turn it into a failure:
    that is the purpose of ``--llmperf-strict``.
    """
    path, line, _ = item.location
    message = warnings.WarningMessage(
        LlmperfWarning(printable(text)), LlmperfWarning, filename=path, lineno=(line or 0) + 1
    )
    item.ihook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": message,
            "nodeid": item.nodeid,
            "when": "runtest",
            "location": None,
        }
    )
