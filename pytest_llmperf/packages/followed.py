"""Determines which of a tree's requirement lists an environment follows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pytest_llmperf.packages.declarations import Declarations
from pytest_llmperf.packages.installed import Installed
from pytest_llmperf.packages.requirement_files import parse, requirements_of


class ListName(NamedTuple):
    """The identity of a requirement list, by which lists of two trees are matched.

    Attributes:
        where: a requirements file, or the folder of a package.
        kind: what kind of list it is.
        name: of the extra or group.
    """

    where: str
    kind: Literal["file", "project", "extra", "group"]
    name: str = ""


Lists = Mapping[ListName, list[str]]


def lists_of(tree: Declarations, installed: Installed) -> dict[ListName, list[str]]:
    """Return the lists that a tree declares.

    If only a project's build backend knows them, the lists that it was installed with.
    """
    lists: dict[ListName, list[str]] = {}
    for folder, project in tree.projects.items():
        extras = project.extras
        lists[ListName(folder, "project")] = project.dependencies
        if project.needs_backend:
            home = (tree.tree / folder).resolve()
            for each in installed.values():
                source = each.source()
                if source is not None and source.resolve() == home:
                    lists[ListName(folder, "project")] = list(map(str, each.requirements()))
                    extras = each.extras()
        for name, lines in extras.items():
            lists[ListName(folder, "extra", name)] = lines
        for name, lines in project.groups.items():
            lists[ListName(folder, "group", name)] = lines
    for name, path in tree.requirements.items():
        lists[ListName(name, "file")] = requirements_of(path)
    return lists


def own_followed_lists(lists: Lists, installed: Installed) -> set[ListName]:
    """Return the lists of its own tree that this environment follows.

    A project's dependencies always count. Another list counts if all of it is
    installed, or if only versions have drifted from it and no list that is met
    names those packages (two files for two platforms name the same ones).
    """
    followed, drifted = set(), []
    for name, lines in lists.items():
        requirements = [each for each in map(parse, applicable_lines(lines)) if each]
        unmet = {_named(each) for each in requirements if not installed.satisfies(each)}
        if name.kind == "project" or (not unmet and (requirements or name.kind == "file")):
            followed.add(name)
        elif unmet <= installed.keys():
            drifted.append((name, unmet))
    claimed = package_names(line for name in followed for line in lists[name])
    return followed | {name for name, unmet in drifted if unmet and not unmet & claimed}


def other_followed_lists(theirs: Lists, ours: Lists, followed: set[ListName]) -> set[ListName]:
    """Return the lists of the other tree to follow: those that this environment follows.

    Of lists that this tree does not have, requirements files are followed, to be
    safe; extras and groups are not, as they are optional.
    """
    always = {name for name in theirs if name.kind == "project"}
    alone = {name for name in theirs if name.kind == "file" and name not in ours}
    return always | alone | (theirs.keys() & followed)


def package_names(lines: Iterable[str]) -> set[str]:
    """Return the canonical names of the packages in lines that apply to this interpreter."""
    return {canonicalize_name(each.name) for each in map(parse, applicable_lines(lines)) if each}


def no_longer_needed(
    asked: Iterable[str], installed: Installed, besides: Collection[str]
) -> set[str]:
    """Return the packages that no other installed package needs.

    Args:
        asked: their names.
        installed: an environment's distributions.
        besides: names of distributions whose needs do not count: the project's own.
    """
    gone = installed.keys() & set(asked)
    while True:
        others = [each for name, each in installed.items() if name not in {*gone, *besides}]
        needed = {_named(requirement) for each in others for requirement in each.requirements()}
        if not gone & needed:
            return gone
        gone -= needed


def applicable_lines(lines: Iterable[str]) -> list[str]:
    """Return the lines that apply to this interpreter."""
    found = []
    for line in lines:
        requirement = parse(line)
        marker = requirement.marker if requirement else None
        if marker is None or marker.evaluate({"extra": ""}):
            found.append(line)
    return found


def _named(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)
