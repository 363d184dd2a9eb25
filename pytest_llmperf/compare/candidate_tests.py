"""Chooses the candidate's session that is judged for each test, and the base's samples for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.evidence import BaselineSamples, evidence_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.baselines.record import TestRecord
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.compare.pairing import SidePair


@dataclass(frozen=True)
class CandidateTest:
    """One test of the candidate, in the session that it is judged by.

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
        """The test's record in that session."""
        return self.stored.record.tests[self.nodeid]


def candidate_tests(records: Sequence[StoredRecord]) -> list[CandidateTest]:
    """Return every test of the sessions: the newest session's tests first, in its order."""
    found: dict[str, CandidateTest] = {}
    for stored in reversed(records):
        for nodeid, test in stored.record.tests.items():
            before = found.get(nodeid)
            if before is None:
                found[nodeid] = CandidateTest(nodeid, stored, 0)
            elif before.test.invalid:
                skipped = before.skipped + 1
                # Where none was fit, the newest says why.
                found[nodeid] = replace(before, skipped=skipped)
                if not test.invalid:
                    found[nodeid] = CandidateTest(nodeid, stored, skipped)
    return list(found.values())


def newest_tests(records: Sequence[StoredRecord]) -> set[str]:
    """Return the tests of the newest session and of others of the same commit.

    Older sessions may hold tests that have been removed since.
    """
    newest = records[-1].record
    commit = newest.provenance.commit
    same = [s.record for s in records if commit and s.record.provenance.commit == commit]
    return {nodeid for record in (newest, *same) for nodeid in record.tests}


def base_samples(one: CandidateTest, metric: str, pair: SidePair) -> BaselineSamples:
    """Return the base's samples of one metric of a test."""
    return evidence_for(
        pair.base.records,
        one.nodeid,
        one.test.workload,
        metric,
        decisions=pair.base.decisions,
        summary=one.test.summary,
        requests=one.test.requests,
    )
