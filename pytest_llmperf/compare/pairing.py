"""Chooses the sessions of two sides to compare: one machine and model, none on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.compare.matching_sessions import (
    MatchingSessions,
    forbidding_differences,
    groups_of,
    without,
)
from pytest_llmperf.compare.stored_side import CompareError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmperf.compare.stored_side import StoredSide
    from pytest_llmperf.machine.fingerprint import Difference


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
    candidates = without(_groups(candidate, selection, -1), base)
    if not candidates:
        raise CompareError(_same_sessions(base, candidate, selection))
    found = [(a, b) for a in bases for b in candidates if not forbidding_differences(a, b)]
    if len(found) == 1:
        a, b = found[0]
        return SidePair(a, b, notes=(*_by_name(a, b), *_left_out(candidates, b)))
    if found:
        raise CompareError(_several(found, base, candidate))
    if not selection.unlike:
        raise CompareError(_refused(bases, candidates))
    a, b = _only_machine(bases), _only_machine(candidates)
    return SidePair(
        a, b, forbidding_differences(a, b), (*_by_name(a, b), *_left_out(candidates, b))
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
    found = [group for group in groups_of(side) if group.key in keys]
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
    if without(groups_of(base), candidate):
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
        key=lambda pair: len(forbidding_differences(*pair)),
    )
    lines = [
        f"{a.side.name} and {b.side.name} were not measured on the same machine with the same "
        "model:"
    ]
    lines += [
        f"  {d.item}: base {d.baseline}, candidate {d.current}"
        for d in forbidding_differences(a, b)
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
