"""Stored sessions of one side that match in machine and model, and how two such groups differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.json_text import SIGNIFICANT_DIGITS
from pytest_llmperf.baselines.match import alike
from pytest_llmperf.machine.fingerprint import Difference, differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmperf.baselines.decisions import StoredDecision
    from pytest_llmperf.baselines.record import BaselineRecord, ModelIdentity, Samples
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.compare.stored_side import StoredSide


@dataclass(frozen=True)
class MatchingSessions:
    """Sessions of one side on one machine and model, oldest first; never empty."""

    side: StoredSide
    records: tuple[StoredRecord, ...]
    decisions: tuple[StoredDecision, ...] = ()

    @property
    def newest(self) -> BaselineRecord:
        """The session recorded last."""
        return self.records[-1].record

    @property
    def key(self) -> str:
        """The machine's key."""
        return self.newest.machine.key

    @property
    def model(self) -> str:
        """The model's name for a reader."""
        return model_label(self.newest.model)


def forbidding_differences(
    base: MatchingSessions, candidate: MatchingSessions
) -> tuple[Difference, ...]:
    """Return the differences that forbid a verdict: strict items of the machine, or the model.

    Of a report only the machine's key and the model's name are known.
    """
    old, new = base.newest, candidate.newest
    if base.side.is_report or candidate.side.is_report:
        pairs = (("machine", base.key, candidate.key), ("model", base.model, candidate.model))
        return tuple(Difference(item, a, b) for item, a, b in pairs if a != b)
    found = differences(new.machine, old.machine)
    if old.model.sha256 != new.model.sha256 or (
        new.model.sha256 is None and old.model.name != new.model.name
    ):
        found.append(Difference("model", _identity(old.model), _identity(new.model)))
    return tuple(found)


def model_label(model: ModelIdentity) -> str:
    """Name a model for a reader: with its quantization where the name lacks it."""
    if model.quantization and model.quantization not in model.name:
        return f"{model.name} {model.quantization}"
    return model.name


def _identity(model: ModelIdentity) -> str:
    return f"{model_label(model)} (SHA-256 {(model.sha256 or 'unknown')[:12]})"


def groups_of(side: StoredSide) -> list[MatchingSessions]:
    """Group a side's sessions by machine and model."""
    return [
        MatchingSessions(side, records, shelf.decisions)
        for shelf in side.shelves.values()
        for records in alike(shelf.records)
    ]


def without(groups: Iterable[MatchingSessions], other: StoredSide) -> list[MatchingSessions]:
    """Leave another side's sessions out.

    Stores are append-only: a later commit's store holds the sessions of an earlier one, too.
    """
    theirs = [stored.record for shelf in other.shelves.values() for stored in shelf.records]
    known: dict[str, list[BaselineRecord]] = {}
    for record in theirs:
        known.setdefault(record.recorded, []).append(record)
    found = []
    for group in groups:
        if other.is_report or group.side.is_report:
            # A report does not say when it was; its samples are those of its record.
            own = [s for s in group.records if not any(_same_samples(s.record, r) for r in theirs)]
        else:
            own = [s for s in group.records if s.record not in known.get(s.record.recorded, ())]
        if own:
            found.append(MatchingSessions(group.side, tuple(own), group.decisions))
    return found


def _same_samples(one: BaselineRecord, other: BaselineRecord) -> bool:
    """Whether a test has the very same samples in both, to the digits that records keep."""
    for nodeid in one.tests.keys() & other.tests.keys():
        mine, theirs = one.tests[nodeid].metrics, other.tests[nodeid].metrics
        names = mine.keys() & theirs.keys()
        # All of them: what a counter tells, such as zero, may well be the same twice.
        if names and all(_is_same(mine[name].samples, theirs[name].samples) for name in names):
            return True
    return False


def _is_same(one: Samples, other: Samples) -> bool:
    return all(_rounded(a) == _rounded(b) for a, b in zip(one, other, strict=False))


def _rounded(row: Sequence[float]) -> list[str]:
    return [f"{value:.{SIGNIFICANT_DIGITS}g}" for value in row]
