"""A decision about a recorded session as text: what it covers, and what it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.match import alike
from pytest_llmperf.baselines.window import BaselineWindow, window_of
from pytest_llmperf.gate.words import count
from pytest_llmperf.text import wrap_node_id, wrap_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmperf.baselines.decisions import Decision
    from pytest_llmperf.baselines.store import Shelf, StoredRecord


def decision_lines(
    decision: Decision, session: StoredRecord, shelf: Shelf, covered: Iterable[str], width: int
) -> Iterator[str]:
    """Write a decision in lines of at most ``width`` columns.

    Args:
        decision: what was decided.
        session: the session that it is about.
        shelf: the machine's sessions and decisions, this one among them.
        covered: the tests that it holds for.
        width: of the terminal.
    """
    yield from wrap_words(_headline(decision, session), width)
    for nodeid in covered:
        yield from wrap_node_id(nodeid, width)
        for effect in _effects(decision, _standing(shelf, session, nodeid)):
            yield from wrap_words(effect, width, first="  ")
    if decision.tests is not None:
        return
    for nodeid, test in session.record.tests.items():
        if test.invalid:
            yield from wrap_node_id(f"left out, invalid in that session: {nodeid}", width)
            yield from wrap_words("; ".join(test.invalid), width, first="  ")


def _headline(decision: Decision, session: StoredRecord) -> str:
    record = session.record
    commit = f"commit {record.provenance.commit[:12]}" if record.provenance.commit else "no commit"
    named = f"{session.path.name} ({record.recorded}, {commit})"
    if decision.kind == "accept":
        return f"accepted: the level of {named} is the one to compare with from now on, for"
    return f"anchored: creeping is measured from the level of {named} from now on, for"


def _standing(shelf: Shelf, session: StoredRecord, nodeid: str) -> BaselineWindow:
    """Return the standing of the test's sessions that match ``session``."""
    group = next(group for group in alike(shelf.records) if session in group)
    workload = session.record.tests[nodeid].workload
    return window_of(group, nodeid, workload, shelf.decisions)


def _effects(decision: Decision, standing: BaselineWindow) -> list[str]:
    """Write which sessions judge from now on."""
    if decision.kind == "accept":
        judging, before = len(standing.judging), len(standing.history)
        return [
            f"{count(judging, 'session')} judge{'s' if judging == 1 else ''}; "
            f"{count(before, 'session')} before it no longer do{'es' if before == 1 else ''}"
        ]
    accepted, chosen = standing.acceptance, standing.anchoring
    if accepted and chosen and chosen.session in standing.history:
        return [f"note: it is older than the accepted level ({accepted.reason})"]
    return []
