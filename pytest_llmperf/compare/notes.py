"""Writes the notes beside the verdicts: what is compared, what differs, what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.match import explaining_differences
from pytest_llmperf.compare.pairing import CandidateTest, base_samples
from pytest_llmperf.compare.reported_verdicts import count_reported
from pytest_llmperf.gate.words import count
from pytest_llmperf.machine.fingerprint import relevant_differences
from pytest_llmperf.stats.summary import stalls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.compare.pairing import SidePair

#: Number of base sessions whose origin is named; any more are only counted.
_MAX_ORIGINS = 3


def test_findings(test: CandidateTest, pair: SidePair) -> Iterator[str]:
    """Yield the findings about one test, a line each."""
    record = test.record
    if pair.differences:
        for reason in record.invalid:
            yield f"the machine was disturbed: {reason}"
        samples = base_samples(test, "end_to_end", pair)
        if samples.status == "workload changed":
            yield f"workload changed: {samples.detail}"
    if test.skipped:
        yield (
            f"{count(test.skipped, 'other session')} of {pair.candidate.side.name} left out: the "
            "machine was disturbed"
        )
    if "end_to_end" in record.metrics and (number := stalls(record.metrics["end_to_end"].samples)):
        yield (
            f"{count(number, 'stalled iteration')} (over 1.25 times their process's median; "
            "kept, the median absorbs them)"
        )
    skipped = base_samples(test, "end_to_end", pair).skipped_invalid
    if skipped:
        yield f"{count(skipped, 'stored session')} left out: the machine was disturbed"
    reports = (side.reported.get(test.nodeid) for side in (pair.candidate.side, pair.base.side))
    if any(report is not None and report.has_share for report in reports):
        yield "its stall rate is not compared, because stall rates vary from hour to hour"
    if record.accepted is not None:
        yield f"this level was accepted when it was recorded: {record.accepted}"


def recorded_differences(
    base: StoredRecord, candidate: StoredRecord, pair: SidePair
) -> tuple[str, ...]:
    """Return the recorded differences other than speed; of a report only the engine is known."""
    record = candidate.record
    if pair.base.side.is_report or pair.candidate.side.is_report:
        engines = [engine_label(stored) for stored in (base, candidate)]
        return (f"engine: {engines[0]} → {engines[1]}",) if engines[0] != engines[1] else ()
    differing = explaining_differences(base, record.machine, record.provenance, record.config)
    return tuple(f"{d.item}: {d.baseline} → {d.current}" for d in differing)


def engine_label(stored: StoredRecord) -> str:
    """Return the name and version of a session's engine."""
    source = stored.record.provenance
    return f"{source.engine} {source.engine_version}"


def side_notes(pair: SidePair, newest: StoredRecord, used: Collection[Path]) -> Iterator[str]:
    """Yield notes on the sessions that are compared, a line each."""
    base, candidate = pair.base, pair.candidate
    yield f"base: {base.side.name}, {count(len(base.records), 'session')}"
    own = len(candidate.records)
    which = "the only session" if own == 1 else f"the newest of {own} sessions"
    if candidate.side.name == str(newest.path):
        yield f"judged: {newest.path}{_when(newest)}"
    else:
        yield f"judged: {candidate.side.name}, {which} of its own: {newest.path}{_when(newest)}"
    yield from _imports(pair, newest)
    if len(used) > 1:
        were = "was" if len(used) == 2 else "were"
        yield (
            f"{count(len(used) - 1, 'older session')} of {candidate.side.name} {were} used for "
            "tests that the newest one did not measure, or measured on a disturbed machine"
        )
    if counts := count_reported(base.side.reported.values()):
        yield f"{base.side.name} itself says: {counts}"
    for difference in relevant_differences(pair.differences):
        yield (
            f"not judged, since {difference.item} differs: base {difference.baseline}, "
            f"candidate {difference.current}"
        )
    yield from (*base.side.notes, *candidate.side.notes)


def _imports(pair: SidePair, newest: StoredRecord) -> Iterator[str]:
    """Yield the origin of imported sessions, and what their samples are, a line each."""
    records = [(f"base {stored.path.name}", stored.record) for stored in pair.base.records]
    records.append((f"judged {newest.path.name}", newest.record))
    imported = [(which, r.imported) for which, r in records if r.imported is not None]
    # The last is the judged session.
    for which, origin in (*imported[:-1][:_MAX_ORIGINS], *imported[-1:]):
        yield f"{which}: {origin}"
    if (more := len(imported) - _MAX_ORIGINS - 1) > 0:
        yield f"{count(more, 'more imported session')} of the base"
    if imported:
        yield "each run of an imported session is one sample, however many requests it made"


def _when(stored: StoredRecord) -> str:
    record = stored.record
    if not record.recorded:
        return ""
    commit = record.provenance.commit
    at = f"at commit {commit[:12]}" if commit else "outside a repository"
    dirty = " with uncommitted changes" if record.provenance.dirty else ""
    when = record.recorded.replace("T", " ").replace("Z", " UTC")
    return f" (recorded {when} {at}{dirty})"
