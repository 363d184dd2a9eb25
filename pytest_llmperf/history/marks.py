"""Which sessions somebody accepted or made the anchor, and why."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.decisions import SCHEMA_VERSION, Decision, from_json
from pytest_llmperf.baselines.files import DECISION
from pytest_llmperf.baselines.strict_json import parse, why_not
from pytest_llmperf.history.objects import ObjectReader
from pytest_llmperf.history.remedies import with_remedy
from pytest_llmperf.history.series import Group, Mark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmperf.history.archive import Archive


def mark(groups: list[Group], archive: Archive) -> dict[str, str]:
    """Add the decisions of HEAD and the work tree to the groups they are about.

    Return path -> why, and on a second line what mends it, of each that cannot be read.
    """
    unreadable: dict[str, str] = {}
    made: list[tuple[str, Decision]] = []
    for path, text in _texts(archive):
        try:
            made.append((PurePosixPath(path).parent.parent.name, _decision(text)))
        except ValueError as error:
            why = f"not a decision about a session: {why_not(error)}"
            unreadable[path] = with_remedy(why, path, archive.repository.top, DECISION.again)
    named = {
        (session.machine, session.path.rpartition("/")[2]): index
        for index, session in enumerate(archive.sessions if made else ())
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


def _texts(archive: Archive) -> Iterator[tuple[str, bytes]]:
    files, top = archive.files, archive.repository.top
    if files.decisions:
        with ObjectReader(top) as reader:
            texts = reader.read(list(files.decisions.values()))
            for path, text in zip(files.decisions, texts, strict=True):
                yield path, text or b""
    for path in files.uncommitted_decisions:
        try:
            yield path, (top / path).read_bytes()
        except OSError:  # gone since git looked
            continue


def _decision(text: bytes) -> Decision:
    """Parse a decision.

    Raises:
        ValueError: it is none that this version reads.
    """
    data = parse(text)
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA_VERSION:
        raise ValueError(f"schema: got {schema!r}")
    return from_json(data)
