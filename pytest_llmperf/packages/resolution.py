"""Asks an installer what it would change in this environment, so that a tree has what it declares.

The installer works on a stand-in that holds the metadata of this environment's
packages only: even a dry run would leave its lock file in the environment itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_llmperf.packages.commands import clean_environment, run_logged
from pytest_llmperf.packages.copying import describe
from pytest_llmperf.packages.declarations import (
    CONSTRAINTS,
    UV_LOCK,
    Declarations,
    repository_around,
)
from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.followed import (
    ListName,
    Lists,
    followed_here,
    followed_there,
    lists_of,
    named_in,
)
from pytest_llmperf.packages.installed import ENGINE, Installed
from pytest_llmperf.packages.installer import Installer
from pytest_llmperf.packages.requirement_files import constraints_of, options_of
from pytest_llmperf.packages.venv import interpreter, make_venv

#: Stands for the top of a tree in what is to be installed from there.
TREE = "{tree}"
_ANY = ListName(".", "project")


@dataclass
class Side:
    """One of the two trees, and which of its lists are followed.

    Attributes:
        declarations: what it declares.
        lists: its lists of requirements.
        followed: names of those that are installed from.
        locked: whether the project's own lists come from its uv.lock.
        builds: whether build backends may be asked. They write into the tree, so that for
            this environment's own what it was installed with has to do.
    """

    declarations: Declarations
    lists: Lists
    builds: bool
    followed: set[ListName] = field(default_factory=set)
    locked: bool = False

    @property
    def tree(self) -> Path:
        """The tree's project folder."""
        return self.declarations.tree

    @property
    def names(self) -> set[str]:
        """The names of the packages in its lists."""
        return named_in(self.lists, self.followed)

    def lines_of(self, package: str) -> list[str]:
        """The requirements in its lists that name a package."""
        followed = (line for name in sorted(self.followed) for line in self.lists.get(name, ()))
        return [line for line in followed if package in named_in({_ANY: [line]}, {_ANY})]

    @property
    def options(self) -> list[str]:
        """What its requirements files say of where packages come from."""
        files = [self.declarations.requirements.get(name.where) for name in sorted(self.followed)]
        return [option for file in files if file for option in options_of(file)]

    @property
    def is_readable(self) -> bool:
        """Whether its lists name all that it asks for: some is known to build backends only."""
        return self.locked or not any(
            each.needs_backend for each in self.declarations.projects.values()
        )


def sides(
    ours: Declarations, theirs: Declarations, installed: Installed, installer: Installer
) -> tuple[Side, Side]:
    """Return this environment's tree and the other one, with the lists that both follow.

    Raises:
        InstallError: a uv.lock cannot be read.
    """
    here = Side(ours, lists_of(ours, installed), builds=False)
    there = Side(theirs, lists_of(theirs, installed), builds=True)
    here.followed = followed_here(here.lists, installed)
    there.followed = followed_there(there.lists, here.lists, here.followed)
    if installer.name == "uv" and UV_LOCK in ours.texts and UV_LOCK in theirs.texts:
        for side in (here, there):
            _take_lock(side, installer)
    for name in here.followed:
        project = theirs.projects.get(name.where)
        if name.kind == "extra" and project is not None and project.needs_backend:
            there.followed.add(name)
    return here, there


def changes_between(
    here: Side,
    there: Side,
    installed: Installed,
    installer: Installer,
    scratch: Path,
    log: Path,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Return what is installed for the other tree and not for this one: name -> requirement.

    What this environment has drifted from in both trees alike is left as it is.

    Args:
        here: this environment's tree.
        there: the other one.
        installed: this environment's distributions.
        installer: is asked.
        scratch: a folder for the stand-in.
        log: the file for the installer's output.
        say: gets a line a minute while it takes long.

    Raises:
        InstallError: the other tree's needs cannot be resolved.
    """
    folder = scratch / "stand-in"
    stand_in = make_venv(folder, log, sees_base=False)
    for each in installed.values():
        describe(each, stand_in)

    def resolved(side: Side) -> dict[str, str]:
        report = scratch / "report.json"
        engine = [ENGINE] if ENGINE in installed else []
        words = _words(side, scratch / "asked.txt", engine)
        output = run_logged(
            installer.resolve(interpreter(folder), words, report),
            log,
            f"finding out with {installer.name} what {_files(side)} asks for",
            cwd=side.tree,
            environ=clean_environment(os.environ),
            say=say,
            advice=f"if it cannot be resolved, {BY_HAND}",
        )
        return _without_paths(installer.changes(output, report), side.tree)

    theirs = resolved(there)
    if not theirs:
        return {}
    try:
        ours = resolved(here)
    except InstallError:  # a drifted environment can live without what its tree asks for
        ours = {}
    return {name: line for name, line in theirs.items() if ours.get(name) != line}


def _words(side: Side, file: Path, also: list[str]) -> list[str]:
    """Return what to install for a tree, as an installer's arguments.

    ``also`` is the engine: a constraint on it counts whether or not the tree asks for it.
    """
    lines, limits = [*side.options, *also], [side.tree / CONSTRAINTS]
    built: dict[Path, list[str]] = {}
    for name in sorted(side.followed):
        project = side.declarations.projects.get(name.where)
        ask = project is not None and project.needs_backend and side.builds and not side.locked
        if project is not None and ask and name.kind != "group":
            built.setdefault(project.folder, []).append(name.name)
            continue
        lines += side.lists.get(name, ())
        if name.kind == "file":
            limits += constraints_of(side.declarations.requirements[name.where])
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    words = ["-r", str(file)]
    for limit in limits:
        words += ["-c", str(limit)] if limit.is_file() else []
    for folder, names in built.items():
        extras = ",".join(filter(None, names))
        words.append(f"{folder}[{extras}]" if extras else str(folder))
    return words


def _files(side: Side) -> str:
    return f"{side.tree}: {', '.join(sorted(side.declarations.texts))}"


def _without_paths(changes: dict[str, str], tree: Path) -> dict[str, str]:
    """Leave out the packages whose source the tree holds; name its files without its path."""
    top = repository_around(tree)
    kept = {}
    for name, line in changes.items():
        _, inside, rest = line.partition(top.as_uri())
        is_folder = not rest.partition("#")[0].endswith((".whl", ".gz", ".zip"))
        if not inside or not is_folder:
            kept[name] = line.replace(top.as_uri(), TREE)
    return kept


def _take_lock(side: Side, installer: Installer) -> None:
    """Replace the project's lists by what its uv.lock holds for those that are followed."""
    own = {name for name in side.followed if name.where == "." and name.kind != "file"}
    chosen = [[f"--{name.kind}", name.name] for name in sorted(own) if name.name]
    plain = ("--quiet", "--frozen", "--no-hashes", "--no-emit-workspace", "--no-header")
    done = subprocess.run(
        [
            *(*installer.program, "export", *plain, "--no-annotate", "--no-default-groups"),
            *("--color", "never", "--python", sys.executable),
            *(word for words in chosen for word in words),
        ],
        cwd=side.tree,
        env=clean_environment(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip()
        raise InstallError(f"{side.tree / UV_LOCK}: uv cannot read it: {said}; {BY_HAND}")
    project = ListName(".", "project")
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    side.lists = {**side.lists, project: lines}
    side.followed = (side.followed - own) | {project}
    side.locked = True
