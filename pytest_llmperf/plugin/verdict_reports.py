"""Turns verdicts into reports of their tests: passes, warnings, failures and properties."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.gate.combine import worst
from pytest_llmperf.gate.verdict import FailPolicy, Verdict, VerdictKind, verdict_fails
from pytest_llmperf.plugin.commands import as_argument, command_stem
from pytest_llmperf.report.disturbances import brief_claim, listed_checks
from pytest_llmperf.report.failure import failure_text
from pytest_llmperf.report.properties import junit_properties
from pytest_llmperf.text import printable, printable_lines, wrap_words

if TYPE_CHECKING:
    from pytest_llmperf.plugin.recording import HeldTest
    from pytest_llmperf.session.result import SessionResult, TestResult

#: How pytest's report of a strict xfail test begins when its body passed.
STRICT_XPASS = "[XPASS(strict)]"


def log_verdicts(
    config: pytest.Config, held: Sequence[HeldTest], result: SessionResult, policy: FailPolicy
) -> list[TestResult]:
    """Log the held reports of every test, changed according to its verdicts.

    Returns the tests that failed only because of their verdicts.
    """
    failed, disturbed = [], listed_checks(result.fitness)
    for held_test, test in zip(held, result.tests, strict=True):
        text = failure_text(
            test,
            disturbed=disturbed,
            policy=policy,
            command=command_stem(config),
            repeat_command=command_stem(config, with_comparison=True),
            against=result.against,
            test_argument=as_argument(config, test.nodeid),
        )
        for name, value in junit_properties(test):
            for report in held_test.reports:
                report.user_properties.append((name, value))
        if text:
            failing = worst(v for v in test.verdicts if verdict_fails(v, policy))
            label = failing.check.metric.label
            claim = brief_claim(failing.kind, failing.claim, disturbed)
            summary = f"{failing.kind.value}: {label}: {claim}"
            summary += f"; likely cause: {test.causes[0]}" if test.causes else ""
            held_test.fail(text, summary)
            if held_test.call.failed:
                failed.append(test)
        elif undecided := undecided_text(test.verdicts):
            add_warning(held_test.item, undecided)
        held_test.log()
    return failed


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
        before = ""
        for line in self._text.splitlines():
            red = line.startswith(("regressed", "missed", "error", "invalid"))
            for part in _fitted(line, writer.fullwidth, before):
                writer.line(part, red=red)
            before = line
        # As pytest ends a traceback, so that editors find the test.
        writer.line("")
        writer.write(self.reprcrash.path, bold=True, red=True)
        writer.line(f":{self.reprcrash.lineno}")


def _fitted(line: str, width: int, before: str) -> list[str]:
    """Break a line at its spaces; a command, which follows a colon, and a log stay as they are."""
    text = line.lstrip()
    lead = line[: len(line) - len(text)]
    if before.endswith(":") and lead and not text.startswith("- "):
        return [line]
    if not text or text.startswith("|"):
        return [line]
    return wrap_words(text, width, indent=f"{lead}    ", first=lead)


def fail_report(
    report: pytest.TestReport, text: str, item: pytest.Item, summary: str | None = None
) -> None:
    """Turn the report of a passed body into a failure, or into an expected failure for xfail.

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
    expects_exception = any("raises" in mark.kwargs for mark in item.iter_markers("xfail"))
    if (strict or hasattr(report, "wasxfail")) and not expects_exception:
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
