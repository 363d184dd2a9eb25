"""Which sessions of two sides face each other: one machine and model, none on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.baselines.jsontext import SIGNIFICANT_DIGITS
from pytest_llmperf.baselines.match import alike
from pytest_llmperf.baselines.sides import Side, SideError
from pytest_llmperf.machine.fingerprint import Difference, differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmperf.baselines.decisions import StoredDecision
    from pytest_llmperf.baselines.record import BaselineRecord, ModelIdentity, Samples
    from pytest_llmperf.baselines.store import StoredRecord


@dataclass(frozen=True)
class Group:
    """Sessions of one side on one machine and model, oldest first; never empty."""

    side: Side
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
        """What a reader calls the model."""
        return model_label(self.newest.model)


@dataclass(frozen=True)
class Facing:
    """What is compared.

    Attributes:
        base: compared with.
        judged: the sessions of the other side that the base's side does not hold.
        differences: of machine and model, base first; nothing is judged where there are some.
        notes: what a reader should know of the choice.
    """

    base: Group
    judged: Group
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What the user asked to compare.

    Attributes:
        machines: keys, of both sides or one for either; empty for whatever fits.
        model: its name, or None.
        unlike: different machines or models may face each other.
    """

    machines: tuple[str, ...] = ()
    model: str | None = None
    unlike: bool = False


def face(base: Side, judged: Side, wanted: Wanted) -> Facing:
    """Choose the sessions of two sides that face each other.

    Raises:
        SideError: none can, or several could, with what to do.
    """
    firsts = _groups(base, wanted, 0)
    own = _without(_groups(judged, wanted, -1), base)
    if not own:
        raise SideError(_same_sessions(base, judged, wanted))
    found = [(a, b) for a in firsts for b in own if not unlike(a, b)]
    if len(found) == 1:
        a, b = found[0]
        return Facing(a, b, notes=(*_by_name(a, b), *_left_out(own, b)))
    if found:
        raise SideError(_several(found, base, judged))
    if not wanted.unlike:
        raise SideError(_refused(firsts, own))
    a, b = _only_machine(firsts), _only_machine(own)
    return Facing(a, b, unlike(a, b), (*_by_name(a, b), *_left_out(own, b)))


def unlike(base: Group, judged: Group) -> tuple[Difference, ...]:
    """Return what forbids a verdict: strict items of the machine, or the model's bytes.

    Of a report only the machine's key and the model's name are known.
    """
    there, here = base.newest, judged.newest
    if base.side.is_report or judged.side.is_report:
        pairs = (("machine", base.key, judged.key), ("model", base.model, judged.model))
        return tuple(Difference(item, a, b) for item, a, b in pairs if a != b)
    found = differences(here.machine, there.machine)
    if there.model.sha256 != here.model.sha256 or (
        here.model.sha256 is None and there.model.name != here.model.name
    ):
        found.append(Difference("model", _identity(there.model), _identity(here.model)))
    return tuple(found)


def model_label(model: ModelIdentity) -> str:
    """What reports call a model: its name, and its quantization where the name lacks it."""
    if model.quantization and model.quantization not in model.name:
        return f"{model.name} {model.quantization}"
    return model.name


def _identity(model: ModelIdentity) -> str:
    return f"{model_label(model)} (SHA-256 {(model.sha256 or 'unknown')[:12]})"


def _groups(side: Side, wanted: Wanted, place: int) -> list[Group]:
    """Return a side's groups, the newest of each machine first.

    Raises:
        SideError: the side holds no such machine, or no such model.
    """
    keys = list(side.shelves)
    if wanted.machines:
        asked = wanted.machines[place]
        if asked not in keys:
            raise SideError(
                f"{side.name} holds no sessions of machine {asked!r}\n"
                f"  it holds: {', '.join(map(repr, keys))}"
            )
        keys = [asked]
    found = [group for group in _all_groups(side) if group.key in keys]
    if wanted.model is None:
        return found
    of_model = [group for group in found if wanted.model in (group.model, group.newest.model.name)]
    if not of_model:
        models = ", ".join(dict.fromkeys(repr(group.model) for group in found))
        raise SideError(
            f"{side.name} holds no sessions of model {wanted.model!r}\n  it holds: {models}"
        )
    return of_model


def _all_groups(side: Side) -> list[Group]:
    return [
        Group(side, records, shelf.decisions)
        for shelf in side.shelves.values()
        for records in alike(shelf.records)
    ]


def _without(groups: Iterable[Group], other: Side) -> list[Group]:
    """Take another side's sessions out: a store is append-only, so a later one holds them, too."""
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
            found.append(Group(group.side, tuple(own), group.decisions))
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


def _by_name(base: Group, judged: Group) -> Iterable[str]:
    if base.side.is_report or judged.side.is_report:
        yield (
            "a report says only the names of its machine and model, so that both are the "
            "same is known by their names only"
        )


def _left_out(own: Sequence[Group], judged: Group) -> Iterable[str]:
    for group in own:
        if group is not judged:
            yield (
                f"{judged.side.name} also holds sessions of {group.model} on {group.key}, which "
                "are not compared"
            )


def _same_sessions(base: Side, judged: Side, wanted: Wanted) -> str:
    where = f" of machine {wanted.machines[-1]}" if wanted.machines else ""
    if _without(_all_groups(base), judged):
        return (
            f"{judged.name} holds no session{where} that {base.name} does not hold, too: there is "
            "nothing to judge\n  the base comes first: perhaps the other way around is meant"
        )
    return (
        f"{base.name} and {judged.name} hold the same sessions{where}: there is nothing to "
        "compare\n  record a session of the change: pytest -m perf --llmperf-record"
    )


def _several(found: Sequence[tuple[Group, Group]], base: Side, judged: Side) -> str:
    keys = dict.fromkeys(b.key for _, b in found)
    if len(keys) > 1:
        listed = [f"  --machine {key}" for key in keys]
    else:
        listed = [f"  --model {b.model!r}" for _, b in found]
    what = "machines" if len(keys) > 1 else "models"
    return "\n".join([f"{base.name} and {judged.name} hold several {what}; name one:", *listed])


def _refused(firsts: Sequence[Group], own: Sequence[Group]) -> str:
    """Say exactly what differs between the two that differ least."""
    a, b = min(((a, b) for a in firsts for b in own), key=lambda pair: len(unlike(*pair)))
    lines = [
        f"{a.side.name} and {b.side.name} were not measured on the same machine with the same "
        "model:"
    ]
    lines += [f"  {d.item}: {d.baseline} there, {d.current} here" for d in unlike(a, b)]
    several = False
    for group, others in ((a, firsts), (b, own)):
        keys = dict.fromkeys(other.key for other in others)
        if len(keys) > 1:
            several = True
            lines.append(f"  {group.side.name} holds the machines {', '.join(keys)}")
    named = f" --machine {a.key} --machine {b.key}" if several else ""
    lines.append(f"  to see both side by side, without a verdict, add: --any{named}")
    return "\n".join(lines)


def _only_machine(groups: Sequence[Group]) -> Group:
    """Return the newest group where one machine is left; raises SideError where several are."""
    keys = dict.fromkeys(group.key for group in groups)
    if len(keys) > 1:
        listed = "\n".join(f"  {key}" for key in keys)
        raise SideError(
            f"{groups[0].side.name} holds several machines; name one for each side, the base's "
            f"first, with --machine KEY --machine KEY:\n{listed}"
        )
    return groups[0]
