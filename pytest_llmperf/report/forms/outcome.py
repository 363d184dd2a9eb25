"""Outcomes of tests for tools that only know passed, failed, broken and skipped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.gate.verdict import UNCOMPARED
from pytest_llmperf.gate.words import listed
from pytest_llmperf.report.forms.headline import NOT_JUDGED, NOT_MEASURED, REMOVED
from pytest_llmperf.report.reported_checks import PROVEN, VOID, claims

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_llmperf.report.reported import ReportedSession, ShownTest
    from pytest_llmperf.session.recorded import Location, UnmeasuredTest


class Outcome(Enum):
    """Outcome of a test, the worst first.

    ``OPEN`` means that the test did not fail and nothing is proven about it.
    """

    BROKEN = "broken"
    FAILED = "failed"
    OPEN = "open"
    PASSED = "passed"

    @property
    def rank(self) -> int:
        """Position in the order; 0 is the worst."""
        return list(Outcome).index(self)


@dataclass(frozen=True)
class TestOutcome:
    """A test with its outcome and what is wrong with it.

    Attributes:
        nodeid: pytest's name of the test.
        outcome: outcome of all its checks.
        verdict_text: the verdict, or the reason for having none.
        reasons: what is wrong or undecided, one line each, the verdict first; empty if it passed.
        file, line: where it is defined; the line is None if the report does not say.
        test: the measured test, or None.
    """

    __test__ = False

    nodeid: str
    outcome: Outcome
    verdict_text: str
    reasons: tuple[str, ...]
    file: str
    line: int | None
    test: ShownTest | None = None

    @property
    def message(self) -> str:
        """The most important line."""
        return self.reasons[0] if self.reasons else self.verdict_text


def outcomes_of(session: ReportedSession) -> list[TestOutcome]:
    """Return the outcome of every test, with unmeasured tests last."""
    measured = [_measured(session, test) for test in session.tests]
    return [
        *measured,
        *map(_unmeasured, session.unmeasured),
        *map(_removed, session.removed),
    ]


def in_repository(file: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Return a test's file as a path from the top of the repository.

    In a report it is relative to pytest's root folder, usually the current ``folder`` in CI;
    variables of GitHub and GitLab name the top.
    """
    top = environ.get("GITHUB_WORKSPACE") or environ.get("CI_PROJECT_DIR")
    whole = folder / file
    # Path.exists raises an error for a name that is too long.
    if top and os.path.exists(whole) and whole.resolve().is_relative_to(Path(top).resolve()):  # noqa: PTH110
        return whole.resolve().relative_to(Path(top).resolve()).as_posix()
    return file


def _measured(session: ReportedSession, test: ShownTest) -> TestOutcome:
    outcome = outcome_of(session, test)
    verdict_text = test.worst.value if test.worst is not None else NOT_JUDGED
    reasons = tuple(_reasons(test)) if outcome is not Outcome.PASSED else ()
    file, line = _place(test.nodeid, test.location)
    return TestOutcome(test.nodeid, outcome, verdict_text, reasons, file, line, test)


def outcome_of(session: ReportedSession, test: ShownTest) -> Outcome:
    """Return the outcome of a measured test, by the kinds of verdict that fail in its session."""
    kinds = {kind for check in test.checks for kind in check.kinds}
    kinds |= {test.worst} if test.worst is not None else set()
    failing = kinds & session.session.fails
    if test.worst in VOID and test.worst in failing:
        return Outcome.BROKEN
    if failing:
        return Outcome.FAILED
    if test.worst in PROVEN:
        return Outcome.PASSED
    # There is nothing to compare with, but a target is met.
    if test.worst in UNCOMPARED and kinds & PROVEN:
        return Outcome.PASSED
    return Outcome.OPEN


def _reasons(test: ShownTest) -> Iterator[str]:
    for (kind, claim), checks in claims(test.checks).items():
        if kind in PROVEN:
            continue
        labels = listed([check.label for check in checks])
        yield f"{kind.value}: {labels}: {claim}" if claim else f"{kind.value}: {labels}"
        for note in dict.fromkeys(note for check in checks for note in check.notes):
            yield f"{labels}: {note}"
    if test.worst is None:
        yield f"{NOT_JUDGED}: no metric of this test has a verdict"
    elif test.worst in VOID and not any(check.verdict in VOID for check in test.checks):
        yield from test.findings
    for cause in test.causes:
        yield f"likely cause: {cause}"


def _unmeasured(test: UnmeasuredTest) -> TestOutcome:
    outcome = Outcome.FAILED if test.failed else Outcome.OPEN
    why = f"{test.outcome}, {NOT_MEASURED}: {test.reason}"
    file, line = _place(test.nodeid, test.location)
    return TestOutcome(test.nodeid, outcome, NOT_MEASURED, (why,), file, line)


def _removed(nodeid: str) -> TestOutcome:
    why = f"{REMOVED}: only the base has this test"
    return TestOutcome(nodeid, Outcome.OPEN, REMOVED, (why,), *_place(nodeid, None))


def _place(nodeid: str, location: Location | None) -> tuple[str, int | None]:
    if location is not None:
        return location.file, location.line
    return nodeid.partition("::")[0], None
