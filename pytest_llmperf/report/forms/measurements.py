"""The measurements of a session that other tools may store: all that are not void."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.report.reported_checks import VOID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.report.reported import ReportedSession, ShownTest
    from pytest_llmperf.report.reported_checks import ReportedCheck


@dataclass(frozen=True)
class StorableFigure:
    """One metric of one test, with a value.

    Attributes:
        test, check: origin of the figure.
        value: the median, base unit.
    """

    test: ShownTest
    check: ReportedCheck
    value: float


def measurements(session: ReportedSession) -> Iterator[StorableFigure]:
    """Yield the measurements of a session, except void ones.

    A tool that stores numbers has no place for a verdict: a measurement of a busy machine would
    look like any other value, and later values would be compared with it.
    """
    for test in session.tests:
        for check in test.checks:
            if check.value is not None and not test.is_void and check.verdict not in VOID:
                yield StorableFigure(test, check, check.value)


def left_out(session: ReportedSession) -> list[str]:
    """Return node ids of tests whose numbers are left out, at least in part, as void."""
    return [
        test.nodeid
        for test in session.tests
        if test.is_void or any(check.verdict in VOID for check in test.checks)
    ]
