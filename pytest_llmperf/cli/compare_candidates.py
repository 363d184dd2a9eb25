"""Which session of the judged side stands for each of its tests, and what faces it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.evidence import BaselineSamples, evidence_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.baselines.record import TestRecord
    from pytest_llmperf.baselines.side_pairs import Facing
    from pytest_llmperf.baselines.store import StoredRecord


@dataclass(frozen=True)
class Candidate:
    """One test of the judged side, in the session that stands for it.

    Attributes:
        nodeid: the test.
        stored: its newest session in which it was fit to be judged, or its newest one.
        skipped: newer sessions in which it was not.
    """

    nodeid: str
    stored: StoredRecord
    skipped: int

    @property
    def test(self) -> TestRecord:
        """What that session holds of the test."""
        return self.stored.record.tests[self.nodeid]


def candidates_of(records: Sequence[StoredRecord]) -> list[Candidate]:
    """Return every test of the sessions in the newest one's order, older ones' tests after it."""
    found: dict[str, Candidate] = {}
    for stored in reversed(records):
        for nodeid, test in stored.record.tests.items():
            before = found.get(nodeid)
            if before is None:
                found[nodeid] = Candidate(nodeid, stored, 0)
            elif before.test.invalid:
                skipped = before.skipped + 1
                # Where none was fit, the newest says why.
                found[nodeid] = replace(before, skipped=skipped)
                if not test.invalid:
                    found[nodeid] = Candidate(nodeid, stored, skipped)
    return list(found.values())


def present(records: Sequence[StoredRecord]) -> set[str]:
    """Return the tests of the newest session and of the others of the same commit.

    Older sessions hold tests that were gone by then.
    """
    newest = records[-1].record
    commit = newest.provenance.commit
    same = [s.record for s in records if commit and s.record.provenance.commit == commit]
    return {nodeid for record in (newest, *same) for nodeid in record.tests}


def stored_of(one: Candidate, metric: str, facing: Facing) -> BaselineSamples:
    """Return what the base holds for one metric of a test."""
    return evidence_for(
        facing.base.records,
        one.nodeid,
        one.test.workload,
        metric,
        decisions=facing.base.decisions,
        summary=one.test.summary,
        requests=one.test.requests,
    )
