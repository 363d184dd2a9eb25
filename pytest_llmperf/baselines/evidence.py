"""What the matching records hold for one test and metric: the samples of a window of sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmperf.baselines.record import Samples
    from pytest_llmperf.baselines.store import StoredRecord

#: Newest valid sessions that judge; older ones are history.
WINDOW = 10


@dataclass(frozen=True)
class BaselineEvidence:
    """The baseline of one test and metric.

    Attributes:
        status: whether there is something to compare with.
        sessions: sessions x processes x iterations, oldest first, in the metric's base unit.
        paths: the file of each session.
        stored_workload: the newest stored workload in words, or None where the test is unknown.
        skipped_invalid: sessions left out because the machine was not fit to judge then.
        detail: one line for a reader when the status is not ``ok``.
    """

    status: Literal["ok", "missing", "workload changed"]
    sessions: tuple[Samples, ...] = ()
    paths: tuple[Path, ...] = ()
    stored_workload: str | None = None
    skipped_invalid: int = 0
    detail: str = ""


def evidence_for(
    records: Sequence[StoredRecord],
    nodeid: str,
    workload_hash: str,
    metric: str,
    *,
    window: int = WINDOW,
) -> BaselineEvidence:
    """Collect the newest ``window`` valid sessions of the same workload.

    ``records`` are matching ones, oldest first. Sessions of another workload
    never count; when there are only those, the workload changed. Nor do sessions
    before the newest one whose level was accepted.
    """
    holding = [stored for stored in records if nodeid in stored.record.tests]
    if not holding:
        detail = "this test is in none of the baselines" if records else ""
        return BaselineEvidence("missing", detail=detail)
    newest = holding[-1].record.tests[nodeid].summary
    same = [s for s in holding if s.record.tests[nodeid].workload == workload_hash]
    if not same:
        return BaselineEvidence(
            "workload changed", stored_workload=newest, detail=f"the baseline measured {newest}"
        )
    valid = _since_accepted(
        [stored for stored in same if not stored.record.tests[nodeid].invalid], nodeid
    )
    measured = [s for s in valid if metric in s.record.tests[nodeid].metrics][-window:]
    skipped = sum(bool(stored.record.tests[nodeid].invalid) for stored in same)
    if not measured:
        detail = (
            f"{metric} is in none of this test's baselines"
            if valid
            else f"every stored session of this test is invalid ({skipped})"
        )
        return BaselineEvidence(
            "missing", stored_workload=newest, skipped_invalid=skipped, detail=detail
        )
    return BaselineEvidence(
        "ok",
        sessions=tuple(s.record.tests[nodeid].metrics[metric].samples for s in measured),
        paths=tuple(stored.path for stored in measured),
        stored_workload=same[-1].record.tests[nodeid].summary,
        skipped_invalid=skipped,
    )


def _since_accepted(valid: list[StoredRecord], nodeid: str) -> list[StoredRecord]:
    """Drop the sessions before the newest one whose level was accepted."""
    for place in range(len(valid) - 1, -1, -1):
        if valid[place].record.tests[nodeid].accepted is not None:
            return valid[place:]
    return valid
