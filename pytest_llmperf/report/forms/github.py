"""A session for GitHub Actions: annotations, and a page for a job summary or comment."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pytest_llmperf.gate.words import count
from pytest_llmperf.report.forms.markdown import session_markdown
from pytest_llmperf.report.forms.outcome import Outcome, TestOutcome, outcomes_of
from pytest_llmperf.report.markdown import LONGEST, clipped
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmperf.report.reported import ReportedSession

#: Number of annotations that GitHub shows of a step.
MAX_ANNOTATIONS = 10
#: Longest message in lines, and longest line in characters; GitHub truncates longer messages.
MAX_LINES, MAX_LINE = 10, 1000
#: Largest step summary, in bytes; GitHub drops a larger one entirely.
MAX_SUMMARY = 1 << 20


def workflow_commands(session: ReportedSession, to_repository_path: Callable[[str], str]) -> str:
    """Return workflow commands that annotate failing and undecided tests, the worst first.

    With more than ten tests, the last command counts the tests that are left out. See
    https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions.

    Args:
        session: the session.
        to_repository_path: turns a test's file into a path from the top of the repository.
    """
    problems = [test for test in outcomes_of(session) if test.outcome is not Outcome.PASSED]
    problems.sort(key=lambda test: test.outcome.rank)
    shown = problems if len(problems) <= MAX_ANNOTATIONS else problems[: MAX_ANNOTATIONS - 1]
    lines = [_annotation(test, to_repository_path) for test in shown]
    if omitted := len(problems) - len(shown):
        level = _level(problems[len(shown)])
        text = f"{count(omitted, 'more test')} like these: the job's summary has them"
        lines.append(f"::{level} title=llmperf::{_data(text)}")
    return "".join(f"{line}\n" for line in lines)


def comment(session: ReportedSession, longest: int = LONGEST) -> str:
    """Return the page as the body of a comment, whose first line is a hidden marker.

    The marker is the same for all sessions of one machine and model, so that a job finds its
    own comment again, and not the comment of another job of its matrix.
    """
    mark = f"{marker(session)}\n"
    return mark + session_markdown(session, longest - len(mark))


def marker(session: ReportedSession) -> str:
    """Return the hidden marker of a session's comment."""
    facts = session.session
    digest = hashlib.sha256(printable(f"{facts.machine}\0{facts.model}").encode()).hexdigest()
    return f"<!-- pytest-llmperf {digest[:12]} -->"


def summary(session: ReportedSession, taken: int, longest: int = LONGEST) -> str:
    """Return the page for a step summary with ``taken`` bytes in use; empty if it does not fit."""
    text = "\n" * bool(taken) + session_markdown(session, longest)
    return text if len(text.encode()) <= MAX_SUMMARY - taken else ""


def _annotation(test: TestOutcome, to_repository_path: Callable[[str], str]) -> str:
    properties = {
        "file": to_repository_path(test.file),
        "line": str(test.line or 1),
        "title": f"llmperf: {test.verdict_text}",
    }
    written = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    lines = [f"{clipped(test.nodeid)}: {test.message}", *test.reasons[1:]]
    lines = [clipped(line, MAX_LINE) for line in lines[:MAX_LINES]]
    return f"::{_level(test)} {written}::{_data(chr(10).join(map(printable, lines)))}"


def _level(test: TestOutcome) -> str:
    return "warning" if test.outcome is Outcome.OPEN else "error"


def _data(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property of a workflow command."""
    return _data(printable(text)).replace(":", "%3A").replace(",", "%2C")
