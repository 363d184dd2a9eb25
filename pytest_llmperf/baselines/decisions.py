"""Decisions about stored sessions: a level accepted, an anchor chosen, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pytest_llmperf.baselines.json_text import dumps
from pytest_llmperf.stored_json import Stored, dump, expect, read

if TYPE_CHECKING:
    from pathlib import Path

#: Raised whenever an older plugin would misread what a newer one writes.
SCHEMA_VERSION = 1

#: A plain file name: no path separators, no control characters.
_SESSION_NAME = re.compile(r"\w[\w.+@ ()-]*\.json")
#: The time format of sessions, with an optional fraction: decisions can share a second.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def _is_time(text: str) -> bool:
    try:
        moment(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Decision(Stored):
    """A user's decision about one recorded session.

    Attributes:
        kind: ``accept``: later sessions are compared with its level, and no longer with
            earlier sessions. ``anchor``: it is the fixed point that slow creeping is measured
            from.
        decided: time, UTC, as ``2026-11-22T23:59:26.123Z``.
        session: file name of the session's record, in the same machine's folder.
        tests: node ids, or None for all in that session.
        reason: the user's reason; never empty.
        commit: the repository's commit at that time, or None.
    """

    kind: Literal["accept", "anchor"]
    decided: Annotated[str, expect("a UTC time such as 2026-11-22T23:59:26.123Z", _is_time)]
    session: Annotated[
        str,
        expect("the file name of a session's record, without folders", _SESSION_NAME.fullmatch),
    ]
    tests: Annotated[
        tuple[str, ...] | None,
        expect(
            "at least one node id, or null for all tests of the session", lambda found: found != ()
        ),
    ]
    reason: Annotated[str, expect("a reason", str.strip)]
    commit: Annotated[
        str | None,
        expect(
            "40 hexadecimal digits or null", lambda text: text is None or _COMMIT.fullmatch(text)
        ),
    ] = None

    def covers(self, nodeid: str) -> bool:
        """Whether the decision applies to this test, provided that its session has the test."""
        return self.tests is None or nodeid in self.tests

    @property
    def moment(self) -> datetime:
        """Time of the decision, UTC."""
        return moment(self.decided)


@dataclass(frozen=True)
class StoredDecision:
    """A decision and its file."""

    path: Path
    decision: Decision


def now() -> str:
    """Return the current time in the format of ``decided``, to the millisecond."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def moment(text: str) -> datetime:
    """Parse the time in ``decided`` or in a record's ``recorded``, UTC.

    Raises:
        ValueError: the text is not a time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a UTC time: {text!r}")
    fraction = (match[2] or "").ljust(6, "0")
    return datetime.strptime(f"{match[1]}.{fraction}+0000", "%Y-%m-%dT%H:%M:%S.%f%z")


def to_text(decision: Decision) -> str:
    """Return the text of a decision's file.

    Raises:
        ValueError: an item is not what a decision may hold.
    """
    data = {"schema": SCHEMA_VERSION, **dump(decision)}
    # Never write a file that could not be read back.
    from_json(data)
    return dumps(data)


def from_json(data: Any) -> Decision:
    """Rebuild a decision from parsed JSON; unknown keys are ignored.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    return read(Decision, data)
