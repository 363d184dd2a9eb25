"""Chooses the stored sessions to compare, for two sides and for each test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.json_text import SIGNIFICANT_DIGITS
from pytest_llmperf.baselines.match import group_comparable
from pytest_llmperf.baselines.samples import BaselineSamples, collect_baseline_samples
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
        """The model's name, for display."""
        return self.newest.model.label


def _forbidding_differences(
    base: MatchingSessions, candidate: MatchingSessions
) -> tuple[Difference, ...]:
    """Return the differences that forbid a verdict: strict items of the machine, or the model.

    For a report only the machine's key and the model's name are known.
    """
    old, new = base.newest, candidate.newest
    if base.side.is_report or candidate.side.is_report:
        pairs = (("machine", base.key, candidate.key), ("model", base.model, candidate.model))
        return tuple(Difference(item, a, b) for item, a, b in pairs if a != b)
    forbidding = differences(new.machine, old.machine)
    if old.model.sha256 != new.model.sha256 or (
        new.model.sha256 is None and old.model.name != new.model.name
    ):
        forbidding.append(Difference("model", _identity(old.model), _identity(new.model)))
    return tuple(forbidding)


def _identity(model: ModelIdentity) -> str:
    return f"{model.label} (SHA-256 {(model.sha256 or 'unknown')[:12]})"


def _groups_of(side: StoredSide) -> list[MatchingSessions]:
    """Group a side's sessions by machine and model."""
    return [
        MatchingSessions(side, records, shelf.decisions)
        for shelf in side.shelves.values()
        for records in group_comparable(shelf.records)
    ]


def _without_sessions_of(
    groups: Iterable[MatchingSessions], other: StoredSide
) -> list[MatchingSessions]:
    """Return the groups without the sessions that another side also holds.

    Stores are append-only: a later commit's store holds the sessions of an earlier one, too.
    """
    theirs = [stored.record for shelf in other.shelves.values() for stored in shelf.records]
    known: dict[str, list[BaselineRecord]] = {}
    for record in theirs:
        known.setdefault(record.recorded, []).append(record)
    remaining = []
    for group in groups:
        if other.is_report or group.side.is_report:
            # A report has no time; its samples equal those of the same session's record.
            own = [s for s in group.records if not any(_same_samples(s.record, r) for r in theirs)]
        else:
            own = [s for s in group.records if s.record not in known.get(s.record.recorded, ())]
        if own:
            remaining.append(MatchingSessions(group.side, tuple(own), group.decisions))
    return remaining


def _same_samples(one: BaselineRecord, other: BaselineRecord) -> bool:
    """Whether any test has the same samples in both, to the precision of stored records."""
    for nodeid in one.tests.keys() & other.tests.keys():
        mine, theirs = one.tests[nodeid].metrics, other.tests[nodeid].metrics
        names = mine.keys() & theirs.keys()
        # All metrics: a counter's value, such as zero, may well be the same twice.
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
        base: the sessions to compare with.
        candidate: the sessions of the candidate's side that the base's side does not hold.
        differences: of machine and model, base first; if there are any, nothing is judged.
        notes: notes on the choice, for the user.
    """

    base: MatchingSessions
    candidate: MatchingSessions
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Which machine and model to compare.

    Attributes:
        machines: one key for both sides, or the base's and the candidate's; empty for any.
        model: the model's name; None for any.
        allow_mismatch: whether different machines or models may be compared, without a verdict.
    """

    machines: tuple[str, ...] = ()
    model: str | None = None
    allow_mismatch: bool = False


def pair_sides(base: StoredSide, candidate: StoredSide, selection: Selection) -> SidePair:
    """Choose the sessions of two sides to compare.

    Raises:
        CompareError: no sessions fit together, or several do; the message says what to do.
    """
    bases = _groups(base, selection, 0)
    candidates = _without_sessions_of(_groups(candidate, selection, -1), base)
    if not candidates:
        raise CompareError(_same_sessions(base, candidate, selection))
    fitting = [(a, b) for a in bases for b in candidates if not _forbidding_differences(a, b)]
    own = [(a, b) for a, b in fitting if b.newest.imported is None]
    if len(own) == 1:
        # Imported sessions beside the user's own are only compared if they are named.
        fitting = own
    if len(fitting) == 1:
        a, b = fitting[0]
        return SidePair(a, b, notes=(*_by_name(a, b), *_left_out(candidates, b)))
    if fitting:
        raise CompareError(_several(fitting, base, candidate))
    if not selection.allow_mismatch:
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
    groups = [group for group in _groups_of(side) if group.key in keys]
    if selection.model is None:
        return groups
    of_model = [
        group for group in groups if selection.model in (group.model, group.newest.model.name)
    ]
    if not of_model:
        models = ", ".join(dict.fromkeys(repr(group.model) for group in groups))
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
    if _without_sessions_of(_groups_of(base), candidate):
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
    """Return the error message: the exact differences of the two groups that differ least."""
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
    """Return the newest group of the only machine; raises CompareError if there are several."""
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
    """One test of the candidate, and the session whose samples are judged.

    Attributes:
        nodeid: the test.
        stored: the newest session in which the test is valid, or else its newest session.
        skipped: number of newer sessions, in which it is invalid.
    """

    nodeid: str
    stored: StoredRecord
    skipped: int

    @property
    def record(self) -> TestRecord:
        """The test's record in that session."""
        return self.stored.record.tests[self.nodeid]


def candidate_tests(records: Sequence[StoredRecord]) -> list[CandidateTest]:
    """Return every test of the sessions: the newest session's tests first, in its order."""
    chosen: dict[str, CandidateTest] = {}
    for stored in reversed(records):
        for nodeid, test in stored.record.tests.items():
            before = chosen.get(nodeid)
            if before is None:
                chosen[nodeid] = CandidateTest(nodeid, stored, 0)
            elif before.record.invalid:
                skipped = before.skipped + 1
                # If the test is invalid in all sessions, the newest says why.
                chosen[nodeid] = replace(before, skipped=skipped)
                if not test.invalid:
                    chosen[nodeid] = CandidateTest(nodeid, stored, skipped)
    return list(chosen.values())


def newest_tests(records: Sequence[StoredRecord]) -> set[str]:
    """Return the node ids of the tests in the newest session and in others of its commit.

    Older sessions may hold tests that have been removed since.
    """
    newest = records[-1].record
    commit = newest.provenance.commit
    same = [s.record for s in records if commit and s.record.provenance.commit == commit]
    return {nodeid for record in (newest, *same) for nodeid in record.tests}


def base_samples(test: CandidateTest, metric: str, pair: SidePair) -> BaselineSamples:
    """Return the base's samples of one metric of a test."""
    return collect_baseline_samples(
        pair.base.records,
        test.nodeid,
        test.record.workload,
        metric,
        decisions=pair.base.decisions,
        summary=test.record.summary,
        requests=test.record.requests,
    )
