"""Provides another commit's environment: this one, or a separate one that is cached."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pytest_llmperf.packages.building import (
    BUILD_TIME,
    LONGEST_BUILD_S,
    Site,
    build,
    build_by_command,
    donor_of,
)
from pytest_llmperf.packages.declarations import (
    Declarations,
    check_installable,
    read_declarations,
    repository_around,
)
from pytest_llmperf.packages.engine_build import build_flags
from pytest_llmperf.packages.fingerprint import digest, engine_digest, state_of
from pytest_llmperf.packages.installed import (
    ENGINE,
    NOT_COPIED,
    Distribution,
    Installed,
    installed_here,
)
from pytest_llmperf.packages.installers import InstallError, find_installer
from pytest_llmperf.packages.needs import Needs, compare_needs
from pytest_llmperf.packages.store import CacheEntry
from pytest_llmperf.packages.venv import interpreter, visible_base_folders

__all__ = ["Environment", "InstallError", "environment_for"]

#: Part of every name in the cache: environments of an older layout are not reused.
_LAYOUT = 3
#: Differences reported in one line.
_SHOWN = 6


@dataclass(frozen=True)
class Environment:
    """The Python environment of a tree's processes: its interpreter, and a line for the report.

    It is ``shared`` if it is this process's own.
    """

    python: str
    shared: bool
    note: str


@dataclass(frozen=True)
class _Trees:
    """The declarations of both trees, and this environment's distributions.

    ``own`` are the distributions that come from the trees.
    """

    ours: Declarations
    theirs: Declarations
    installed: Installed
    own: Sequence[Distribution]

    def files(self) -> str:
        """Name the files that differ."""
        return _few(self.ours.changed(self.theirs))

    def differences(self, other: Installed) -> list[str]:
        """Name the packages in which another environment differs from this one."""
        changed, added, left_out = [], [], []
        for name in sorted(
            {*self.installed, *other} - NOT_COPIED - {package.name for package in self.own}
        ):
            ours, theirs = self.installed.get(name), other.get(name)
            if ours and theirs and ours.version != theirs.version:
                changed.append(f"{name} {theirs.version} ({ours.version} here)")
            elif theirs and not ours:
                added.append(f"{name} {theirs.version} (not here)")
            elif ours and not theirs:
                left_out.append(f"without {name} ({ours.version} here)")
        return [*changed, *added, *left_out]


@dataclass(frozen=True)
class _Recipe:
    """Instructions for building another tree's environment.

    Attributes:
        content: everything that decides its packages, as JSON types.
        make: builds it, given the folders of packages to copy an engine from.
        flags: CMAKE_ARGS for an engine that has to be built.
        needs: what an installer has to change; nothing if the user's own command installs.
    """

    content: Sequence[object]
    make: Callable[[Site, Sequence[Path]], Path]
    flags: str
    needs: Needs = field(default_factory=Needs)


def environment_for(
    own_tree: Path,
    other_tree: Path,
    cache: Path,
    say: Callable[[str], None],
    install: str | None = None,
    seconds: float | None = None,
) -> Environment:
    """Return the environment for another work tree, building it if the cache has none.

    This environment if both trees declare the same, or an installer finds that they need
    the same packages; else one that differs from it only in their needs.

    Args:
        own_tree: the project folder that this interpreter's environment is made for.
        other_tree: the same folder of another work tree.
        cache: the folder under which environments and their logs are kept.
        say: called with a line before and during long steps.
        install: a command line that installs the other tree's packages, instead of an
            automatic installer; ``{python}`` stands for the new environment's interpreter.
        seconds: time limit. An engine is not built from source if that may take longer; None
            builds it in any case.

    Raises:
        InstallError: it cannot be provided; the message names the log and the fix.
    """
    if not sys.executable:
        raise InstallError(
            "can't find this Python's executable (sys.executable is empty)\n"
            "  start Python by its full path"
        )
    own_tree, other_tree = own_tree.resolve(), other_tree.resolve()
    installed = installed_here()
    of_repository = installed.below(repository_around(own_tree))
    also = sorted(
        Path(os.path.relpath(str(package.source), own_tree)).as_posix() for package in of_repository
    )
    ours, theirs = read_declarations(own_tree, also), read_declarations(other_tree, also)
    if not ours.changed(theirs):
        return _shared("both commits declare the same dependencies")
    if not theirs.files and not install:
        return _shared("the other commit declares no dependencies")
    own = [package for name, package in installed.items() if name in ours.names | theirs.names]
    own += [package for package in of_repository if package not in own]
    trees = _Trees(ours, theirs, installed, own)
    recipe = _by_command(trees, install) if install else _by_installer(trees)
    if recipe is None:
        return _shared("both need the same packages")
    try:
        return _cached_or_built(trees, recipe, cache / "environments", say, seconds)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InstallError(
            f"can't create an environment for the other commit in {cache / 'environments'}: "
            f"{reason}; free some disk space, or set LLMPERF_CACHE_DIR to a folder on another disk"
        ) from None


def _shared(why: str) -> Environment:
    return Environment(sys.executable, True, f"shared: {why}")


def _by_command(trees: _Trees, install: str) -> _Recipe:
    """Return the recipe that uses the user's own command."""
    flags = build_flags(trees.installed.get(ENGINE), os.environ)
    return _Recipe(
        ["by command", dict(trees.theirs.files), install, flags, state_of(())],
        lambda site, _: build_by_command(site, trees.installed, install),
        flags,
    )


def _by_installer(trees: _Trees) -> _Recipe | None:
    """Return the recipe that uses an installer; None if this environment meets all needs.

    Raises:
        InstallError: there is no installer for it.
    """
    ours, theirs, installed = trees.ours, trees.theirs, trees.installed
    check_installable(ours, theirs)
    own = NOT_COPIED | {package.name for package in trees.own} | ours.names | theirs.names
    needs = compare_needs(ours, theirs, installed, own)
    if not needs.installs and not needs.dropped:
        return None
    base = list(map(str, visible_base_folders()))
    installer = find_installer(installed, os.environ, sees_base=bool(base))
    builds = needs.engine or needs.folders
    flags = build_flags(installed.get(ENGINE), os.environ) if builds else ""
    copied = [package for package in installed.values() if package not in trees.own]
    described = [[package.name, package.version] for package in trees.own]
    asked = json.dumps(asdict(needs), default=sorted).replace(str(theirs.tree), "{tree}")
    files = dict(theirs.files) if needs.folders else {}
    return _Recipe(
        [installer.name, asked, files, described, flags, base, state_of(copied)],
        lambda site, donors: build(site, needs, installer, donors),
        flags,
        needs,
    )


def _cached_or_built(
    trees: _Trees,
    recipe: _Recipe,
    store: Path,
    say: Callable[[str], None],
    seconds: float | None,
) -> Environment:
    """Return the environment of a recipe, from the cache or newly built."""
    entry = CacheEntry(store, digest([_LAYOUT, *recipe.content]), say)
    with entry.locked():
        stamp = entry.read_stamp()
        if not stamp:
            engine = engine_digest(recipe.flags, os.environ)
            donors = entry.donors(engine)
            _announce(trees, recipe.needs, donors, say, seconds)
            with entry.working_folder() as folder:
                both = trees.ours.tree, trees.theirs.tree
                site = Site(folder, entry.log, *both, trees.own, recipe.flags, say)
                packages = recipe.make(site, donors)
                differences = trees.differences(Installed([packages, *visible_base_folders()]))
                same = f"the same versions, declared differently ({trees.files()})"
                stamp = {"note": f"own environment: {_few(differences) or same}"}
                if differences or recipe.needs.certain:
                    stamp |= {"folder": folder.name, "packages": str(packages)}
                    stamp |= {"engine": engine if recipe.needs.engine else ""}
                entry.publish(stamp)
        if "folder" not in stamp:
            return _shared("both need the same packages")
        return Environment(str(interpreter(store / stamp["folder"])), False, stamp["note"])


def _announce(
    trees: _Trees,
    needs: Needs,
    donors: Sequence[Path],
    say: Callable[[str], None],
    seconds: float | None,
) -> None:
    """Say what is built, and why.

    Raises:
        InstallError: the time left may not suffice.
    """
    compiles = bool(needs.engine) and donor_of(needs.engine, donors) is None
    if compiles and seconds is not None and seconds < LONGEST_BUILD_S:
        raise InstallError(
            f"it needs {needs.engine} built from source, {BUILD_TIME}, and {max(seconds, 0):.0f} s "
            "are left of perf.budget; raise perf.budget, or run the tests once with "
            "--llmperf-against that commit, which builds it before the budget begins and keeps it"
        )
    changes = _few([*needs.installs, *(f"without {name}" for name in sorted(needs.dropped))])
    why = f": {changes}" if changes else ""
    built = f"; its engine is built from source, {BUILD_TIME}" if compiles else ""
    say(f"creating an environment for the other commit ({trees.files()} changed){why}{built}")


def _few(lines: Sequence[str]) -> str:
    more = [f"{len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return ", ".join([*lines[:_SHOWN], *more])
