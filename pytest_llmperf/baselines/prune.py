"""Session files that are no longer needed, and their removal, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.errors import BaselineError
from pytest_llmperf.baselines.match import group_comparable
from pytest_llmperf.baselines.window import WINDOW, window_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.decisions import StoredDecision
    from pytest_llmperf.baselines.store import BaselineStore, Shelf, StoredRecord

#: Default number of newest sessions of each test that stay.
KEEP = 20
#: Smallest allowed number: fewer would remove sessions that tests are still compared with.
MIN_KEEP = WINDOW


def removable_sessions(shelf: Shelf, keep: int = KEEP) -> tuple[StoredRecord, ...]:
    """Return the sessions that may be removed, oldest first.

    A session stays if, for any test in it, it is among the newest ``keep``, is compared
    with, is an anchor or holds the latest acceptance, or if a decision names it. Tests are
    told apart by node id, model and machine; a workload that none of the newest ``keep``
    sessions of a test measured is ignored.

    Raises:
        ValueError: ``keep`` is below ``MIN_KEEP``.
    """
    if keep < MIN_KEEP:
        raise ValueError(f"at least {MIN_KEEP}: that many sessions judge")
    needed = {stored.decision.session for stored in shelf.decisions}
    for group in group_comparable(shelf.records):
        for nodeid in dict.fromkeys(name for s in group for name in s.record.tests):
            needed |= _needed_files(group, nodeid, keep, shelf.decisions)
    return tuple(stored for stored in shelf.records if stored.path.name not in needed)


def _needed_files(
    group: Sequence[StoredRecord], nodeid: str, keep: int, decisions: Sequence[StoredDecision]
) -> set[str]:
    """Return the names of the files that one test needs."""
    newest = [stored for stored in group if nodeid in stored.record.tests][-keep:]
    needed = {stored.path.name for stored in newest}
    for workload in {stored.record.tests[nodeid].workload for stored in newest}:
        sessions = window_of(group, nodeid, workload, decisions)
        stay = [*sessions.compared[-keep:]]
        for metric in _metrics(sessions.compared, nodeid):
            stay += [*sessions.window(metric), *sessions.anchor(metric)]
        if sessions.acceptance is not None:
            stay.append(sessions.acceptance.session)
        needed |= {stored.path.name for stored in stay}
    return needed


def _metrics(sessions: Sequence[StoredRecord], nodeid: str) -> set[str]:
    return {metric for stored in sessions for metric in stored.record.tests[nodeid].metrics}


def remove(store: BaselineStore, key: str, sessions: Sequence[StoredRecord]) -> Iterator[Path]:
    """Remove session files, yielding each path once it is gone.

    The store is valid after each removal, so this may be interrupted. A session that
    a new decision names stays.

    Raises:
        BaselineError: a file could not be removed, or the store was damaged meanwhile.
    """
    for stored in sessions:
        named = {made.decision.session for made in store.read_decisions(key)}
        if stored.path.name in named:
            continue
        try:
            stored.path.unlink()
        except FileNotFoundError:  # another prune removed it
            continue
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise BaselineError(
                f"{stored.path}: cannot be removed: {reason}\n  make its folder writable"
            ) from None
        yield stored.path
