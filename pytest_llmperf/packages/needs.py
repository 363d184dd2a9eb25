"""Compares another tree's requirements with the installed packages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from packaging.utils import canonicalize_name

from pytest_llmperf.packages.declarations import CONSTRAINTS, Declarations
from pytest_llmperf.packages.followed import (
    ListName,
    Lists,
    applicable_lines,
    lists_of,
    no_longer_needed,
    other_followed_lists,
    own_followed_lists,
    package_names,
)
from pytest_llmperf.packages.installed import ENGINE, PLUGIN, Installed
from pytest_llmperf.packages.requirement_files import (
    constraints_of,
    logical_lines,
    options_of,
    parse,
    requirements_in,
)

#: Takes a tree and which extras and groups count, as words; returns requirements.
LockReader = Callable[[Path, Sequence[str]], list[str]]


@dataclass(frozen=True)
class Needs:
    """Differences between another tree's requirements and this environment.

    Attributes:
        new: requirements that are not met here.
        kept: requirements that are met here, and have to stay so.
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
    def engine(self) -> str:
        """The requirement for a release of the engine that is not installed; else empty."""
        found = [
            line for line in self.new if " @ " not in line and package_names([line]) == {ENGINE}
        ]
        return found[0] if found else ""


def needs_of(
    ours: Declarations,
    theirs: Declarations,
    installed: Installed,
    own: Collection[str],
    lock_of: LockReader | None = None,
) -> Needs:
    """Compare the declarations of two trees with the installed packages.

    Where this environment has drifted from both trees alike, it stays as it is.

    Args:
        ours: declarations of this environment's tree.
        theirs: those of the other one.
        installed: this environment's distributions.
        own: names of the packages that come from the trees, or do not count.
        lock_of: reads the uv.lock of each tree, which replaces the project's own lists.

    Raises:
        InstallError: a uv.lock cannot be read.
    """
    our_lists: Lists = lists_of(ours, installed)
    their_lists: Lists = lists_of(theirs, installed)
    our_followed = own_followed_lists(our_lists, installed)
    their_followed = other_followed_lists(their_lists, our_lists, our_followed)
    folders: tuple[str, ...] = ()
    if lock_of:
        our_lists = _locked(our_lists, our_followed, ours.tree, lock_of)
        their_lists = _locked(their_lists, their_followed, theirs.tree, lock_of)
    else:
        folders = _folders(ours, theirs, our_followed)
    before = _asked(ours, our_lists, our_followed)
    asked = _asked(theirs, their_lists, their_followed)

    new, kept, drifted = [], [], set()
    # A limit on an installed package counts even if no list asks for it.
    held = [line for line in asked.limits if package_names([line]) <= installed.keys()]
    for line in dict.fromkeys(applicable_lines([*asked.lines, *held])):
        requirement = parse(line)
        if requirement and canonicalize_name(requirement.name) in own:
            continue
        if requirement and not requirement.url and installed.satisfies(requirement):
            kept.append(line)
        elif line in before.lines or line in before.limits:
            drifted.add(line)
        else:
            new.append(line)
    limits = [line for line in asked.limits if line not in drifted]
    if ENGINE in installed and not folders and ENGINE not in package_names(new):
        limits.append(f"{ENGINE}=={installed[ENGINE].version}")
    dropped = package_names(before.lines) - package_names(asked.lines) - {ENGINE, *own}
    if not lock_of and any(each.needs_backend for each in theirs.projects.values()):
        dropped = set()  # its lists are not all that it asks for
    return Needs(
        tuple(new),
        tuple(kept),
        tuple(limits),
        tuple(asked.options),
        folders,
        frozenset(no_longer_needed(dropped, installed, {*own} - {PLUGIN})),
    )


class _Asked(NamedTuple):
    """The followed lists of a tree: requirements, constraints, and where packages come from."""

    lines: list[str]
    limits: list[str]
    options: list[str]


def _asked(tree: Declarations, lists: Lists, followed: set[ListName]) -> _Asked:
    names = sorted(followed)
    files = [tree.requirements[name.where] for name in names if name.kind == "file"]
    path = tree.tree / CONSTRAINTS
    return _Asked(
        [line for name in names for line in lists.get(name, ())],
        [
            *(line for file in files for line in constraints_of(file)),
            *(requirements_in(logical_lines(path)) if path.is_file() else ()),
        ],
        [option for file in files for option in options_of(file)],
    )


def _folders(ours: Declarations, theirs: Declarations, followed: set[ListName]) -> tuple[str, ...]:
    """Return the folders to install whose build backend alone knows the dependencies.

    It is run in the other tree only: a build would write into the user's own.
    """
    folders = []
    for folder, project in theirs.projects.items():
        before = ours.projects.get(folder)
        if project.needs_backend and (before is None or before.built_from != project.built_from):
            extras = [each.name for each in sorted(followed) if each[:2] == (folder, "extra")]
            folders.append(
                f"{project.folder}[{','.join(extras)}]" if extras else f"{project.folder}"
            )
    return tuple(folders)


def _locked(lists: Lists, followed: set[ListName], tree: Path, lock_of: LockReader) -> Lists:
    """Replace the project's own followed lists by the content of its uv.lock."""
    own = {name for name in followed if name.where == "." and name.kind != "file"}
    chosen = [word for name in sorted(own) if name.name for word in (f"--{name.kind}", name.name)]
    project = ListName(".", "project")
    return {
        **{name: lines for name, lines in lists.items() if name not in own},
        project: requirements_in(lock_of(tree, chosen)),
    }
