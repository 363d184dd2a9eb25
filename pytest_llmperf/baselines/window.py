"""Roles of a test's stored sessions: those to compare with, the accepted level, the anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.decisions import moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from pytest_llmperf.baselines.decisions import StoredDecision
    from pytest_llmperf.baselines.store import StoredRecord

#: Number of newest valid sessions that a test is compared with; older ones are history.
WINDOW = 10
#: Number of oldest valid sessions that are the anchor unless one was chosen.
ANCHOR = 3


@dataclass(frozen=True)
class SessionChoice:
    """A user's choice of a session, to accept its level or as the anchor.

    ``path`` is the file with the choice: the session's own or a decision's.
    """

    session: StoredRecord
    reason: str
    moment: datetime
    path: Path


@dataclass(frozen=True)
class BaselineWindow:
    """The sessions of one test and workload by role, oldest first.

    Attributes:
        compared: valid sessions from the accepted one on; all of them if none was accepted.
        history: valid sessions before the accepted one.
        invalid: sessions in which the machine was disturbed.
        acceptance: the latest acceptance, or None.
        chosen_anchor: the latest explicit anchor that no later acceptance moved, or None.
    """

    compared: tuple[StoredRecord, ...] = ()
    history: tuple[StoredRecord, ...] = ()
    invalid: tuple[StoredRecord, ...] = ()
    acceptance: SessionChoice | None = None
    chosen_anchor: SessionChoice | None = None
    nodeid: str = ""

    def window(self, metric: str) -> tuple[StoredRecord, ...]:
        """Return the newest ``WINDOW`` compared sessions that hold the metric."""
        return self._holding(metric)[-WINDOW:]

    def anchor(self, metric: str) -> tuple[StoredRecord, ...]:
        """Return the chosen anchor session, or else the oldest compared sessions.

        A chosen session without the metric is no anchor for it.
        """
        chosen = self.chosen_anchor
        if chosen is not None and metric in chosen.session.record.tests[self.nodeid].metrics:
            return (chosen.session,)
        return self._holding(metric)[:ANCHOR]

    def _holding(self, metric: str) -> tuple[StoredRecord, ...]:
        return tuple(s for s in self.compared if metric in s.record.tests[self.nodeid].metrics)


def window_of(
    records: Sequence[StoredRecord],
    nodeid: str,
    workload_hash: str,
    decisions: Sequence[StoredDecision] = (),
) -> BaselineWindow:
    """Sort the sessions of one test and workload by role.

    ``records`` are matching ones, oldest first; ``decisions`` those of the machine.
    A session in which the test was invalid is neither accepted nor an anchor.
    """
    same = [
        stored
        for stored in records
        if nodeid in stored.record.tests and stored.record.tests[nodeid].workload == workload_hash
    ]
    valid = [stored for stored in same if not stored.record.tests[nodeid].invalid]
    invalid = tuple(stored for stored in same if stored.record.tests[nodeid].invalid)
    own = [
        SessionChoice(stored, reason, moment(stored.record.recorded), stored.path)
        for stored in valid
        if (reason := stored.record.tests[nodeid].accepted) is not None
    ]
    acceptance = _latest([*own, *_choices(valid, nodeid, decisions, "accept")])
    chosen_anchor = _latest(_choices(valid, nodeid, decisions, "anchor"))
    if (
        acceptance is not None
        and chosen_anchor is not None
        and acceptance.moment > chosen_anchor.moment
    ):
        # Accepting a new level moves the anchor there, with its reason.
        chosen_anchor = None
    start = 0 if acceptance is None else valid.index(acceptance.session)
    return BaselineWindow(
        tuple(valid[start:]), tuple(valid[:start]), invalid, acceptance, chosen_anchor, nodeid
    )


def _choices(
    valid: Sequence[StoredRecord],
    nodeid: str,
    decisions: Sequence[StoredDecision],
    kind: str,
) -> list[SessionChoice]:
    by_name = {stored.path.name: stored for stored in valid}
    choices = []
    for stored in decisions:
        decision = stored.decision
        session = by_name.get(decision.session)
        if decision.kind == kind and session is not None and decision.covers(nodeid):
            choices.append(SessionChoice(session, decision.reason, decision.moment, stored.path))
    return choices


def _latest(choices: Sequence[SessionChoice]) -> SessionChoice | None:
    """Return the latest choice; of two made at the same time, the later one in the list."""
    return max(reversed(choices), key=lambda choice: choice.moment, default=None)
