"""Marks on sessions that a user accepted or made the anchor, with the reasons."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.strict_json import parse, why_not
from pytest_llmperf.history.contents import committed_contents, work_tree_content
from pytest_llmperf.history.remedies import with_remedy
from pytest_llmperf.history.series import Group, Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.baselines.decisions import Decision
    from pytest_llmperf.history.sessions import RecordedSessions


def add_marks(groups: list[Group], recorded: RecordedSessions) -> dict[str, str]:
    """Add the decisions of HEAD and the work tree to the groups they are about.

    Returns path -> reason, and the fix on a second line, for each that cannot be read.
    """
    unreadable: dict[str, str] = {}
    made: list[tuple[str, Decision]] = []
    for path, content in _contents(recorded):
        try:
            made.append((PurePosixPath(path).parent.parent.name, _decision(content)))
        except ValueError as error:
            from pytest_llmperf.baselines.files import DECISION

            why = why_not(error)
            unreadable[path] = with_remedy(why, path, recorded.repository.top, DECISION.again)
    named = {
        (session.machine, session.path.rpartition("/")[2]): index
        for index, session in enumerate(recorded.sessions if made else ())
    }
    for group in groups:
        found = list(group.marks)
        for machine, decision in made:
            session = named.get((machine, decision.session))
            if session is not None and decision.covers(group.subject.nodeid):
                day = decision.decided[:10]
                found.append(Mark(session, decision.kind, decision.reason, day))
        group.marks = tuple(sorted(one for one in found if _shown(group, one.session)))
    return unreadable


def _shown(group: Group, session: int) -> bool:
    return any(session in series.sessions for series in group.series)


def _contents(recorded: RecordedSessions) -> Iterator[tuple[str, bytes | str]]:
    """Yield each decision's path and content, or why it cannot be read."""
    files, repository = recorded.files, recorded.repository
    blobs = list(files.decisions.values())
    yield from zip(files.decisions, committed_contents(repository, blobs), strict=True)
    for path in files.uncommitted_decisions:
        content = work_tree_content(f"{repository.top}/{path}")
        if content is not None:
            yield path, content


def _decision(content: bytes | str) -> Decision:
    """Parse a decision; a text says why there is none.

    Raises:
        ValueError: it is none that this version reads.
    """
    if isinstance(content, str):
        raise ValueError(content)
    # pydantic: not before it is needed
    from pytest_llmperf.baselines.decisions import SCHEMA_VERSION, from_json

    try:
        data = parse(content)
        schema = data.get("schema") if isinstance(data, dict) else None
        if not isinstance(schema, int) or not 1 <= schema <= SCHEMA_VERSION:
            raise ValueError(f"schema: got {schema!r}")
        return from_json(data)
    except ValueError as error:
        raise ValueError(f"not a decision about a session: {why_not(error)}") from None
