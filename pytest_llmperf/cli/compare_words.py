"""What a comparison says beside its verdicts: what faces what, what differs, what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.baselines.match import notes
from pytest_llmperf.cli.compare_candidates import Candidate, stored_of
from pytest_llmperf.cli.compare_own import own_words
from pytest_llmperf.gate.words import count
from pytest_llmperf.machine.fingerprint import telling
from pytest_llmperf.stats.summary import stalls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pytest_llmperf.baselines.side_pairs import Facing
    from pytest_llmperf.baselines.store import StoredRecord


def findings(one: Candidate, facing: Facing) -> Iterator[str]:
    """Say what was found out about one test, a line each."""
    test = one.test
    if facing.differences:
        for reason in test.invalid:
            yield f"the machine was not fit then: {reason}"
        found = stored_of(one, "end_to_end", facing)
        if found.status == "workload changed":
            yield f"workload changed: {found.detail}"
    if one.skipped:
        yield (
            f"{count(one.skipped, 'other session')} of {facing.judged.side.name} left out: the "
            "machine was not fit then"
        )
    if "end_to_end" in test.metrics and (number := stalls(test.metrics["end_to_end"].samples)):
        yield (
            f"{count(number, 'stalled iteration')} (over 1.25 times their process's median; "
            "kept, the median absorbs them)"
        )
    skipped = stored_of(one, "end_to_end", facing).skipped_invalid
    if skipped:
        yield f"{count(skipped, 'stored session')} left out: the machine was not fit then"
    if one.nodeid in facing.judged.side.not_compared | facing.base.side.not_compared:
        yield "its stall rate is not compared: sessions of different hours stall at different rates"
    if test.accepted is not None:
        yield f"this level was accepted when it was recorded: {test.accepted}"


def recorded_between(base: StoredRecord, judged: StoredRecord, facing: Facing) -> tuple[str, ...]:
    """Return what differs between two sessions besides speed; of a report little is known."""
    record = judged.record
    if facing.base.side.is_report or facing.judged.side.is_report:
        engines = [engine_of(one) for one in (base, judged)]
        return (f"engine: {engines[0]} → {engines[1]}",) if engines[0] != engines[1] else ()
    found = notes(base, record.machine, record.provenance, record.config)
    return tuple(f"{d.item}: {d.baseline} → {d.current}" for d in found)


def engine_of(stored: StoredRecord) -> str:
    """Return the engine and its version."""
    source = stored.record.provenance
    return f"{source.engine} {source.engine_version}"


def sides_in_words(facing: Facing, newest: StoredRecord, used: Collection[Path]) -> Iterator[str]:
    """Say what faces what."""
    base, judged = facing.base, facing.judged
    yield f"base: {base.side.name}, {count(len(base.records), 'session')}"
    own = len(judged.records)
    which = "the only session" if own == 1 else f"the newest of {own} sessions"
    if judged.side.name == str(newest.path):
        yield f"judged: {newest.path}{_when(newest)}"
    else:
        yield f"judged: {judged.side.name}, {which} of its own: {newest.path}{_when(newest)}"
    if len(used) > 1:
        yield (
            f"of {judged.side.name} {count(len(used) - 1, 'older session')} had to stand for tests "
            "that the newest did not measure, or not on a fit machine"
        )
    if said := own_words(base.side.verdicts):
        yield f"{base.side.name} itself says: {said}"
    for difference in telling(facing.differences):
        yield (
            f"not judged, since {difference.item} differs: {difference.baseline} there, "
            f"{difference.current} here"
        )
    yield from (*base.side.notes, *judged.side.notes)


def _when(stored: StoredRecord) -> str:
    record = stored.record
    if not record.recorded:
        return ""
    commit = record.provenance.commit
    at = f"at commit {commit[:12]}" if commit else "outside a repository"
    dirty = " with uncommitted changes" if record.provenance.dirty else ""
    when = record.recorded.replace("T", " ").replace("Z", " UTC")
    return f" (recorded {when} {at}{dirty})"
