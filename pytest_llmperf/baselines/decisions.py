"""Decisions about stored sessions: a level accepted, an anchor chosen, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmperf.baselines.jsontext import dumps
from pytest_llmperf.baselines.reader import Reader

if TYPE_CHECKING:
    from pathlib import Path

#: Raised whenever an older plugin would misread what a newer one writes.
SCHEMA_VERSION = 1
#: The subfolder of a machine's folder that holds its decisions.
FOLDER = "decisions"

#: A plain file name: nothing that leads out of the folder or plays with a terminal.
_SESSION_NAME = re.compile(r"\w[\w.+@ ()-]*\.json")
#: As sessions are dated, with an optional fraction: two decisions may fall into one second.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Decision:
    """What somebody decided about one recorded session.

    Attributes:
        kind: ``accept``: its level is the one to compare with from then on, earlier
            sessions no longer judge. ``anchor``: it is the fixed point that slow creeping
            is measured from.
        decided: when, UTC, as ``2026-11-22T23:59:26.123Z``.
        session: file name of the session's record, in the same machine's folder.
        tests: node ids, or None for all in that session.
        reason: why; never empty.
        commit: the repository's commit then, or None.
    """

    kind: Literal["accept", "anchor"]
    decided: str
    session: str
    tests: tuple[str, ...] | None
    reason: str
    commit: str | None = None

    def covers(self, nodeid: str) -> bool:
        """Whether the decision is about this test, if its session holds it."""
        return self.tests is None or nodeid in self.tests

    @property
    def moment(self) -> datetime:
        """When it was decided, UTC."""
        return moment(self.decided)


@dataclass(frozen=True)
class StoredDecision:
    """A decision and the file it lies in."""

    path: Path
    decision: Decision


def now() -> str:
    """Return the present time as ``decided`` wants it, to the millisecond."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def moment(text: str) -> datetime:
    """Return the time that ``decided`` or a record's ``recorded`` names, UTC.

    Raises:
        ValueError: it names none.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a UTC time: {text!r}")
    fraction = (match[2] or "").ljust(6, "0")
    return datetime.strptime(f"{match[1]}.{fraction}+0000", "%Y-%m-%dT%H:%M:%S.%f%z")


def to_text(decision: Decision) -> str:
    """Return the file's text.

    Raises:
        ValueError: an item is not what a decision may hold.
    """
    data = {
        "schema": SCHEMA_VERSION,
        "kind": decision.kind,
        "decided": decision.decided,
        "session": decision.session,
        "tests": None if decision.tests is None else list(decision.tests),
        "reason": decision.reason,
        "commit": decision.commit,
    }
    # What could not be read back must not be written.
    from_json(data)
    return dumps(data)


def from_json(data: Any) -> Decision:
    """Rebuild a decision from parsed JSON; unknown keys are ignored.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    root = Reader(data)
    return Decision(
        kind=_kind(root["kind"]),
        decided=_time(root["decided"]),
        session=_session(root["session"]),
        tests=_tests(root["tests"]),
        reason=_reason(root["reason"]),
        commit=_commit(root["commit"]),
    )


def _kind(item: Reader) -> Literal["accept", "anchor"]:
    kind = item.text()
    if kind == "accept":
        return "accept"
    if kind == "anchor":
        return "anchor"
    raise item.wrong("accept or anchor")


def _time(item: Reader) -> str:
    text = item.text()
    try:
        moment(text)
    except ValueError:
        raise item.wrong("a UTC time such as 2026-11-22T23:59:26.123Z") from None
    return text


def _session(item: Reader) -> str:
    name = item.text()
    if not _SESSION_NAME.fullmatch(name):
        raise item.wrong("the file name of a session's record, without folders")
    return name


def _tests(item: Reader) -> tuple[str, ...] | None:
    if item.is_null():
        return None
    tests = tuple(test.text() for test in item.elements())
    if not tests:
        raise item.wrong("at least one node id, or null for all tests of the session")
    return tests


def _reason(item: Reader) -> str:
    reason = item.text()
    if not reason.strip():
        raise item.wrong("a reason")
    return reason


def _commit(item: Reader) -> str | None:
    commit = item.optional_text()
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise item.wrong("40 hexadecimal digits or null")
    return commit
