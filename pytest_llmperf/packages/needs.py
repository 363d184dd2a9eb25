"""Compares another tree's requirements with the installed packages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pytest_llmperf.packages.declarations import (
    UV_LOCK,
    Declarations,
    RequirementsFile,
    parse,
    requirement_in,
)
from pytest_llmperf.packages.installed import ENGINE, PLUGIN, Installed
from pytest_llmperf.packages.installers import read_lock


@dataclass(frozen=True)
class Needs:
    """Differences between another tree's requirements and this environment.

    Attributes:
        new: requirements that this environment does not meet.
        kept: requirements that it meets, and that have to stay met.
        limits: constraints on all of it.
        options: lines of requirements files that say where packages come from.
        folders: packages of the tree whose dependencies only their build backend, or uv,
            knows, with their extras: ``/tree/core[dev]``.
        dropped: names of packages that only this environment's tree asks for.
    """

    new: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()

    @property
    def installs(self) -> tuple[str, ...]:
        """The requirements that an installer has to add."""
        return (*self.new, *self.folders)

    @property
    def certain(self) -> bool:
        """Whether it is known, without running a build backend, that the packages differ."""
        return bool(self.new or self.dropped or not self.folders)

    @property
    def engine(self) -> str:
        """The requirement for a release of the engine that is not installed; else empty."""
        releases = (line for line in self.new if " @ " not in line)
        return next((line for line in releases if _package_names([line]) == {ENGINE}), "")


class _ListName(NamedTuple):
    """The identity of a requirement list, by which lists of two trees are matched.

    ``where`` is a requirements file or a package's folder, ``name`` the name of an extra or group.
    """

    where: str
    kind: Literal["file", "project", "extra", "group"]
    name: str = ""


def compare_needs(
    ours: Declarations, theirs: Declarations, installed: Installed, own: Collection[str]
) -> Needs:
    """Compare the declarations of two trees with the installed packages.

    Where this environment has drifted from both trees alike, it stays as it is. If both have a
    uv.lock and these differ, they replace the projects' own lists. ``own`` names packages that
    come from the trees, or do not count.

    Raises:
        InstallError: a uv.lock cannot be read.
    """
    locked = UV_LOCK in ours.files.keys() & theirs.files.keys() & {*ours.changed(theirs)}
    our_lists, their_lists = _lists_of(ours, installed), _lists_of(theirs, installed)
    followed = _followed_lists(our_lists, installed)
    # Of lists that this tree does not have, requirements files are followed, to be safe;
    # extras and groups are not, as they are optional.
    others = {
        name
        for name in their_lists
        if name.kind == "project"
        or name in followed
        or (name.kind == "file" and name not in our_lists)
    }
    before = _asked(ours, our_lists, followed, locked)
    asked = _asked(theirs, their_lists, others, locked)
    # Backends are run in the other tree only: a build would write into the user's own.
    to_build = [] if locked else theirs.to_build(ours)
    folders = tuple(_with_extras(theirs, folder, followed) for folder in to_build)

    new, kept, drifted = [], [], set()
    # A limit on an installed package counts even if no list asks for it.
    held = [line for line in asked.limits if _package_names([line]) <= installed.keys()]
    for line, requirement in _applicable([*asked.requirements, *held]).items():
        if requirement and canonicalize_name(requirement.name) in own:
            continue
        if requirement and not requirement.url and installed.satisfies(requirement):
            kept.append(line)
        elif line in before.requirements or line in before.limits:
            drifted.add(line)
        else:
            new.append(line)
    limits = [line for line in asked.limits if line not in drifted]
    if ENGINE in installed and not folders and ENGINE not in _package_names(new):
        limits.append(f"{ENGINE}=={installed[ENGINE].version}")
    dropped = _package_names(before.requirements) - _package_names(asked.requirements)
    dropped -= {ENGINE, *own}
    if not locked and any(project.needs_backend for project in theirs.projects.values()):
        dropped = set()  # the lists do not name everything that it asks for
    return Needs(
        tuple(new),
        tuple(kept),
        tuple(limits),
        tuple(asked.options),
        folders,
        frozenset(no_longer_needed(dropped, installed, {*own} - {PLUGIN})),
    )


def no_longer_needed(
    asked: Iterable[str], installed: Installed, excluded: Collection[str] = ()
) -> set[str]:
    """Return the installed packages among ``asked`` that no other installed package needs.

    ``excluded`` names distributions whose needs do not count: the project's own.
    """
    gone = installed.keys() & set(asked)
    while True:
        others = [other for name, other in installed.items() if name not in {*gone, *excluded}]
        needed = {canonicalize_name(need.name) for other in others for need in other.requirements()}
        if not gone & needed:
            return gone
        gone -= needed


def _lists_of(tree: Declarations, installed: Installed) -> dict[_ListName, list[str]]:
    """Return the lists that a tree declares.

    If only a project's build backend knows them, the lists that it was installed with.
    """
    lists: dict[_ListName, list[str]] = {}
    for folder, project in tree.projects.items():
        dependencies, extras = project.dependencies, project.extras
        if project.needs_backend:
            home = (tree.tree / folder).resolve()
            for own in installed.values():
                if own.source == home:
                    dependencies, extras = list(map(str, own.requirements())), own.extras()
        lists[_ListName(folder, "project")] = dependencies
        lists |= {_ListName(folder, "extra", name): lines for name, lines in extras.items()}
        lists |= {_ListName(folder, "group", name): lines for name, lines in project.groups.items()}
    for name, content in tree.requirements.items():
        lists[_ListName(name, "file")] = content.requirements
    return lists


def _followed_lists(lists: Mapping[_ListName, list[str]], installed: Installed) -> set[_ListName]:
    """Return the lists of its own tree that this environment follows.

    A project's dependencies always count. Another list counts if all of it is
    installed, or if only versions have drifted from it and no list that is met
    names those packages (two files for two platforms name the same ones).
    """
    followed, drifted = set(), []
    for name, lines in lists.items():
        requirements = [requirement for requirement in _applicable(lines).values() if requirement]
        unmet = {canonicalize_name(r.name) for r in requirements if not installed.satisfies(r)}
        if name.kind == "project" or (not unmet and (requirements or name.kind == "file")):
            followed.add(name)
        elif unmet <= installed.keys():
            drifted.append((name, unmet))
    claimed = _package_names(line for name in followed for line in lists[name])
    return followed | {name for name, unmet in drifted if unmet and not unmet & claimed}


def _asked(
    tree: Declarations,
    lists: Mapping[_ListName, list[str]],
    followed: set[_ListName],
    locked: bool,
) -> RequirementsFile:
    """Return the requirements of a tree, as if all of the followed lists were one file."""
    names = sorted(followed)
    lines: list[str] = []
    if locked:
        in_lock = [name for name in names if name.where == "." and name.kind != "file"]
        words = [w for name in in_lock if name.name for w in (f"--{name.kind}", name.name)]
        lines += filter(None, map(requirement_in, read_lock(tree.tree, words)))
        names = [name for name in names if name not in in_lock]
    lines += [line for name in names for line in lists[name]]
    files = [tree.requirements[name.where] for name in names if name.kind == "file"]
    return RequirementsFile(
        lines,
        [*(line for file in files for line in file.limits), *tree.limits],
        [option for file in files for option in file.options],
    )


def _with_extras(tree: Declarations, folder: str, followed: set[_ListName]) -> str:
    extras = [key.name for key in sorted(followed) if key[:2] == (folder, "extra")]
    return f"{tree.projects[folder].folder}" + (f"[{','.join(extras)}]" if extras else "")


def _applicable(lines: Iterable[str]) -> dict[str, Requirement | None]:
    """Return the lines that apply to this interpreter, with the requirement in each, or None."""
    applicable = {}
    for line in lines:
        requirement = parse(line)
        marker = requirement.marker if requirement else None
        if marker is None or marker.evaluate({"extra": ""}):
            applicable[line] = requirement
    return applicable


def _package_names(lines: Iterable[str]) -> set[str]:
    """Return the canonical names of the packages in lines that apply to this interpreter."""
    return {canonicalize_name(need.name) for need in _applicable(lines).values() if need}
