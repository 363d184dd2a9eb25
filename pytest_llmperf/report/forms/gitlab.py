"""A session as GitLab's Code Quality report, with findings on the lines of the tests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.report.forms.outcome import Outcome, TestOutcome, outcomes_of
from pytest_llmperf.report.markdown import clipped
from pytest_llmperf.text import json_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmperf.report.reported import ReportedSession

_SEVERITIES = {Outcome.BROKEN: "critical", Outcome.FAILED: "major", Outcome.OPEN: "minor"}
#: Longest message of a finding, in characters; a failing assert may quote a whole answer.
MAX_MESSAGE = 1000
#: Verdicts without a comparison: expected for a new test, but worth knowing.
_INFO = {VerdictKind.NO_BASELINE.value, VerdictKind.WORKLOAD_CHANGED.value}


def code_quality(session: ReportedSession, to_repository_path: Callable[[str], str]) -> str:
    """Return the JSON for ``artifacts:reports:codequality``; an empty list if all tests passed.

    A merge request shows findings whose fingerprint its target branch does not have. It is made of
    machine, test and outcome, so that new numbers alone make no new finding. See
    https://docs.gitlab.com/ci/testing/code_quality/.

    Args:
        session: the session.
        to_repository_path: turns a test's file into a path from the top of the repository.
    """
    machine = session.session.machine
    outcomes = outcomes_of(session)
    return json_text(
        [
            _finding(test, machine, to_repository_path)
            for test in outcomes
            if test.outcome is not Outcome.PASSED
        ]
    )


def _finding(
    test: TestOutcome, machine: str, to_repository_path: Callable[[str], str]
) -> dict[str, Any]:
    severity = "info" if test.verdict_text in _INFO else _SEVERITIES[test.outcome]
    identity = "\0".join((machine, test.nodeid, test.outcome.value))
    return {
        "description": printable(f"{clipped(test.nodeid)}: {clipped(test.message, MAX_MESSAGE)}"),
        "check_name": f"llmperf {test.verdict_text}",
        "fingerprint": hashlib.sha256(printable(identity).encode()).hexdigest(),
        "severity": severity,
        "location": {
            "path": printable(to_repository_path(test.file)).removeprefix("./"),
            "lines": {"begin": test.line or 1},
        },
    }
