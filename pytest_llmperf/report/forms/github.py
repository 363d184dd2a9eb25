"""A session for GitHub Actions: annotations, and the page of a job summary or a comment."""

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

#: GitHub shows so many of a step.
MAX_ANNOTATIONS = 10
#: Lines of an annotation's message, and characters of a line; GitHub cuts off longer messages.
MAX_LINES, MAX_LINE = 10, 1000
#: Bytes of a step's summary; GitHub drops a longer one as a whole.
MAX_SUMMARY = 1 << 20


def workflow_commands(session: ReportedSession, place: Callable[[str], str]) -> str:
    """Return workflow commands that annotate failing and open tests, the worst first.

    Of more than ten tests the last command counts those that it leaves out. See
    https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions.

    Args:
        session: the session.
        place: turns a test's file into a path from the top of the repository.
    """
    found = [one for one in outcomes_of(session) if one.outcome is not Outcome.PASSED]
    found.sort(key=lambda one: one.outcome.rank)
    shown = found if len(found) <= MAX_ANNOTATIONS else found[: MAX_ANNOTATIONS - 1]
    lines = [_annotation(one, place) for one in shown]
    if left := len(found) - len(shown):
        level = _level(found[len(shown)])
        text = f"{count(left, 'more test')} like these: the job's summary has them"
        lines.append(f"::{level} title=llmperf::{_data(text)}")
    return "".join(f"{line}\n" for line in lines)


def comment(session: ReportedSession, longest: int = LONGEST) -> str:
    """Return the page as the body of a comment, whose first line is a hidden marker.

    The marker is the same for every session of one machine and model, so that a job finds its
    own comment again, and not that of another job of its matrix.
    """
    mark = f"{marker(session)}\n"
    return mark + session_markdown(session, longest - len(mark))


def marker(session: ReportedSession) -> str:
    """Return the comment's marker."""
    facts = session.session
    digest = hashlib.sha256(printable(f"{facts.machine}\0{facts.model}").encode()).hexdigest()
    return f"<!-- pytest-llmperf {digest[:12]} -->"


def summary(session: ReportedSession, taken: int, longest: int = LONGEST) -> str:
    """Return the page for a step summary of which ``taken`` bytes are used; empty if it is full."""
    text = "\n" * bool(taken) + session_markdown(session, longest)
    return text if len(text.encode()) <= MAX_SUMMARY - taken else ""


def _annotation(one: TestOutcome, place: Callable[[str], str]) -> str:
    properties = {
        "file": place(one.file),
        "line": str(one.line or 1),
        "title": f"llmperf: {one.word}",
    }
    written = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    lines = [f"{clipped(one.nodeid)}: {one.message}", *one.why[1:]]
    lines = [clipped(line, MAX_LINE) for line in lines[:MAX_LINES]]
    return f"::{_level(one)} {written}::{_data(chr(10).join(map(printable, lines)))}"


def _level(one: TestOutcome) -> str:
    return "warning" if one.outcome is Outcome.OPEN else "error"


def _data(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property of a workflow command."""
    return _data(printable(text)).replace(":", "%3A").replace(",", "%2C")
