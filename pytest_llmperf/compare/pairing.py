"""Chooses the stored sessions to compare: of two sides, and of each test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.evidence import BaselineSamples, evidence_for
from pytest_llmperf.baselines.json_text import SIGNIFICANT_DIGITS
from pytest_llmperf.baselines.match import alike
from pytest_llmperf.compare.sources import CompareError
from pytest_llmperf.machine.fingerprint import Difference, differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmperf.baselines.decisions import StoredDecision
    from pytest_llmperf.baselines.record import BaselineRecord, ModelIdentity, Samples, TestRecord
    from pytest_llmperf.baselines.store import StoredRecord
    from pytest_llmperf.compare.sources import StoredSide
    from pytest_llmperf.machine.fingerprint import Difference


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
        return self.newest.model.label


def _forbidding_differences(
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


def _identity(model: ModelIdentity) -> str:
    return f"{model.label} (SHA-256 {(model.sha256 or 'unknown')[:12]})"


def _groups_of(side: StoredSide) -> list[MatchingSessions]:
    """Group a side's sessions by machine and model."""
    return [
        MatchingSessions(side, records, shelf.decisions)
        for shelf in side.shelves.values()
        for records in alike(shelf.records)
    ]


def _without(groups: Iterable[MatchingSessions], other: StoredSide) -> list[MatchingSessions]:
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
        # All of them: what a counter reports, such as zero, may well be the same twice.
        if names and all(_is_same(mine[name].samples, theirs[name].samples) for name in names):
            return True
    return False


def _is_same(one: Samples, other: Samples) -> bool:
    return all(_rounded(a) == _rounded(b) for a, b in zip(one, other, strict=False))


def _rounded(row: Sequence[float]) -> list[str]:
    return [f"{value:.{SIGNIFICANT_DIGITS}g}" for value in row]


@dataclass(frozen=True)
class SidePair:
    """The sessions of two sides that are compared.

    Attributes:
        base: compared with.
        candidate: the sessions of the candidate's side that the base's side does not hold.
        differences: of machine and model, base first; nothing is judged where there are some.
        notes: what a reader should know of the choice.
    """

    base: MatchingSessions
    candidate: MatchingSessions
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Which machine and model to compare.

    Attributes:
        machines: keys, of both sides or one for either; empty for whatever fits.
        model: its name, or None.
        unlike: different machines or models may be compared, without a verdict.
    """

    machines: tuple[str, ...] = ()
    model: str | None = None
    unlike: bool = False


def pair_sides(base: StoredSide, candidate: StoredSide, selection: Selection) -> SidePair:
    """Choose the sessions of two sides to compare.

    Raises:
        CompareError: no sessions fit together, or several do; says what to do.
    """
    bases = _groups(base, selection, 0)
    candidates = _without(_groups(candidate, selection, -1), base)
    if not candidates:
        raise CompareError(_same_sessions(base, candidate, selection))
    found = [(a, b) for a in bases for b in candidates if not _forbidding_differences(a, b)]
    own = [(a, b) for a, b in found if b.newest.imported is None]
    if len(own) == 1:
        # Beside a machine of one's own, imported sessions are compared where they are named.
        found = own
    if len(found) == 1:
        a, b = found[0]
        return SidePair(a, b, notes=(*_by_name(a, b), *_left_out(candidates, b)))
    if found:
        raise CompareError(_several(found, base, candidate))
    if not selection.unlike:
        raise CompareError(_refused(bases, candidates))
    a, b = _only_machine(bases), _only_machine(candidates)
    return SidePair(
        a, b, _forbidding_differences(a, b), (*_by_name(a, b), *_left_out(candidates, b))
    )


def _groups(side: StoredSide, selection: Selection, position: int) -> list[MatchingSessions]:
    """Return a side's groups, the newest of each machine first.

    Raises:
        CompareError: the side holds no such machine, or no such model.
    """
    keys = list(side.shelves)
    if selection.machines:
        asked = selection.machines[position]
        if asked not in keys:
            raise CompareError(
                f"{side.name} holds no sessions of machine {asked!r}\n"
                f"  it holds: {', '.join(map(repr, keys))}"
            )
        keys = [asked]
    found = [group for group in _groups_of(side) if group.key in keys]
    if selection.model is None:
        return found
    of_model = [
        group for group in found if selection.model in (group.model, group.newest.model.name)
    ]
    if not of_model:
        models = ", ".join(dict.fromkeys(repr(group.model) for group in found))
        raise CompareError(
            f"{side.name} holds no sessions of model {selection.model!r}\n  it holds: {models}"
        )
    return of_model


def _by_name(base: MatchingSessions, candidate: MatchingSessions) -> Iterable[str]:
    if base.side.is_report or candidate.side.is_report:
        yield (
            "a report contains only the names of its machine and model, so they were compared "
            "by name"
        )


def _left_out(candidates: Sequence[MatchingSessions], candidate: MatchingSessions) -> Iterable[str]:
    for group in candidates:
        if group is not candidate:
            yield (
                f"{candidate.side.name} also holds sessions of {group.model} on {group.key}, which "
                "are not compared"
            )


def _same_sessions(base: StoredSide, candidate: StoredSide, selection: Selection) -> str:
    where = f" of machine {selection.machines[-1]}" if selection.machines else ""
    if _without(_groups_of(base), candidate):
        return (
            f"{candidate.name} has no session{where} that {base.name} lacks, so there is nothing "
            "to judge\n  the base comes first: did you swap them?"
        )
    return (
        f"{base.name} and {candidate.name} hold the same sessions{where}: there is nothing to "
        "compare\n  record a session of the change: pytest -m perf --llmperf-record"
    )


def _several(
    found: Sequence[tuple[MatchingSessions, MatchingSessions]],
    base: StoredSide,
    candidate: StoredSide,
) -> str:
    keys = dict.fromkeys(b.key for _, b in found)
    if len(keys) > 1:
        listed = [f"  --machine {key}" for key in keys]
    else:
        listed = [f"  --model {b.model!r}" for _, b in found]
    what = "machines" if len(keys) > 1 else "models"
    return "\n".join([f"{base.name} and {candidate.name} hold several {what}; name one:", *listed])


def _refused(bases: Sequence[MatchingSessions], candidates: Sequence[MatchingSessions]) -> str:
    """Name the exact differences between the two groups that differ least."""
    a, b = min(
        ((a, b) for a in bases for b in candidates),
        key=lambda pair: len(_forbidding_differences(*pair)),
    )
    lines = [
        f"{a.side.name} and {b.side.name} were not measured on the same machine with the same "
        "model:"
    ]
    lines += [
        f"  {d.item}: base {d.baseline}, candidate {d.current}"
        for d in _forbidding_differences(a, b)
    ]
    several = False
    for group, others in ((a, bases), (b, candidates)):
        keys = dict.fromkeys(other.key for other in others)
        if len(keys) > 1:
            several = True
            lines.append(f"  {group.side.name} holds the machines {', '.join(keys)}")
    named = f" --machine {a.key} --machine {b.key}" if several else ""
    lines.append(f"  to see both side by side, without a verdict, add: --any{named}")
    return "\n".join(lines)


def _only_machine(groups: Sequence[MatchingSessions]) -> MatchingSessions:
    """Return the newest group where one machine is left; raises CompareError where several are."""
    keys = dict.fromkeys(group.key for group in groups)
    if len(keys) > 1:
        listed = "\n".join(f"  {key}" for key in keys)
        raise CompareError(
            f"{groups[0].side.name} holds several machines; name one for each side, the base's "
            f"first, with --machine KEY --machine KEY:\n{listed}"
        )
    return groups[0]


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
