"""Which of a tree's lists of requirements this environment was made by."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.utils import canonicalize_name

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.declarations import Declarations
from pytest_llmperf.packages.installed import Installed
from pytest_llmperf.packages.lists import DependencyList, Key

#: Kinds of lists that name what is to be installed.
_INSTALLED_KINDS = ("project", "extra", "group", "file")


def active_here(ours: Declarations, installed: Installed) -> set[Key]:
    """Return the lists of this environment's own tree that it follows.

    A project's dependencies always count. Another list counts if all of it is
    installed, or if only versions have drifted from it and no list that is met
    names those packages (two files for two platforms name the same ones).
    """
    lists = [each for each in ours.lists.values() if each.key.kind in _INSTALLED_KINDS]
    active = {each.key for each in lists if _always(ours, each.key) or _met(each, installed)}
    claimed = {name for each in lists if each.key in active for name in _names(each)}
    for each in lists:
        unmet = {specs.name_of(line) for line in _unmet(each, installed)}
        if each.key not in active and unmet <= installed.keys() and not unmet & claimed:
            active.add(each.key)
    return with_includes(ours, active)


def active_there(ours: Declarations, theirs: Declarations, here: set[Key]) -> set[Key]:
    """Return the lists of the other tree to be followed: those that are followed here.

    Of those that this tree does not have, requirements files are followed, as
    the only way to know; extras and groups are not, nobody asked for them.
    """
    active = set()
    for key in theirs.lists:
        alone = key not in ours.lists and key.kind == "file"
        if _always(theirs, key) or key in here or alone:
            active.add(key)
    return with_includes(theirs, active)


def with_includes(of: Declarations, active: Iterable[Key]) -> set[Key]:
    """Add the lists that active ones include, and the extras that they ask of the tree itself."""
    todo, seen = list(active), set()
    while todo:
        key = todo.pop()
        if key in seen or key not in of.lists:
            continue
        seen.add(key)
        each = of.lists[key]
        todo += each.includes
        for line in each.lines:
            todo += _own_lists(of, line)
    return seen


def _own_lists(of: Declarations, line: str) -> list[Key]:
    """Return the lists of the package that a line names, if the tree holds that package."""
    if found := specs.parse_local(line):
        folder, extras = found
        prefix = "" if folder == "." else f"{folder}/"
        return [
            other
            for other in of.lists
            if other.file.rpartition("/")[0] == prefix.rstrip("/")
            and (other.kind == "project" or (other.kind == "extra" and other.name in extras))
        ]
    requirement = specs.parse(line)
    if requirement is None or canonicalize_name(requirement.name) not in of.names:
        return []
    extras = frozenset(canonicalize_name(extra) for extra in requirement.extras)
    return [other for other in of.lists if other.kind == "extra" and other.name in extras]


def _always(of: Declarations, key: Key) -> bool:
    """Say whether these are the dependencies of a package that is always installed."""
    return key.kind == "project" and (key.file.rpartition("/")[0] or ".") in of.main


def _met(each: DependencyList, installed: Installed) -> bool:
    """Say whether all of a list is installed; an empty one says nothing of its own."""
    if each.key.kind in ("extra", "group") and not each.lines and not each.includes:
        return False
    return not _unmet(each, installed)


def _unmet(each: DependencyList, installed: Installed) -> list[str]:
    """Return the lines that apply here and that what is installed does not meet."""
    unmet = []
    for line in each.lines:
        requirement = specs.parse(line)
        if requirement is None or not specs.applies(requirement):
            continue
        # Where a package came from is not compared: that it is installed says enough.
        here = canonicalize_name(requirement.name) in installed
        if not here or (not requirement.url and not installed.satisfies(requirement)):
            unmet.append(line)
    return unmet


def _names(each: DependencyList) -> set[str]:
    return {specs.name_of(line) for line in each.lines}
