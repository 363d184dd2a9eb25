"""Makes one environment: a venv with copied packages, and what the installer adds."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.commands import clean_environment, run_logged
from pytest_llmperf.packages.copying import copy_distribution, copy_packages, describe, remove
from pytest_llmperf.packages.declarations import repository_around
from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.followed import no_longer_asked
from pytest_llmperf.packages.installed import (
    ENGINE,
    NOT_COPIED,
    Distribution,
    Installed,
    site_folders,
)
from pytest_llmperf.packages.installer import Installer
from pytest_llmperf.packages.requirement_files import parse
from pytest_llmperf.packages.resolution import TREE
from pytest_llmperf.packages.venv import interpreter, make_venv, seen_base

Say = Callable[[str], None]

#: How long an engine takes to be built from source, on two to a dozen cores.
BUILD_TIME, LONGEST_BUILD_S = "3 to 6 minutes", 360.0


@dataclass(frozen=True)
class Site:
    """Where to build, and how to report it.

    Attributes:
        folder: of the environment.
        log: the file for the installers' output.
        this_tree: the project folder of this environment.
        other_tree: the project folder that the new one is for.
        flags: CMAKE_ARGS for an engine that has to be built.
        say: gets a line before and while something takes long.
    """

    folder: Path
    log: Path
    this_tree: Path
    other_tree: Path
    flags: str
    say: Say


@dataclass(frozen=True)
class Plan:
    """How the other tree's environment differs from this one.

    Attributes:
        installs: canonical name -> requirement with the exact version, for the installer.
        removes: names of what only this environment's tree asks for.
        own: the project's own distributions, of which only the metadata is in there.
    """

    installs: Mapping[str, str]
    removes: Collection[str]
    own: Sequence[Distribution]

    @property
    def replaced(self) -> set[str]:
        """The names of the distributions that are not taken over from this environment."""
        return {*NOT_COPIED, *self.installs, *(each.name for each in self.own)}


def build(
    site: Site,
    plan: Plan,
    installer: Installer,
    options: Sequence[str],
    donors: Sequence[Path],
) -> Path:
    """Make the environment that ``plan`` describes, and return its folder of packages.

    Args:
        site: where.
        plan: what goes in.
        installer: adds what differs.
        options: lines of a requirements file that say where packages come from.
        donors: folders of packages whose engine was built with the same flags.

    Raises:
        InstallError: an installer failed.
        OSError: the disk is full, or the like.
    """
    base = seen_base()
    packages = make_venv(site.folder, site.log, sees_base=bool(base))
    own_folders = [folder for folder in site_folders() if folder not in base]
    copy_packages(own_folders, packages, repository_around(site.this_tree))
    copied = Installed([packages])
    for name in copied.keys() & plan.replaced:
        remove(copied[name])
    top = repository_around(site.other_tree).as_uri()
    lines = {name: line.replace(TREE, top) for name, line in plan.installs.items()}
    if ENGINE in lines and " @ " not in lines[ENGINE]:
        line = lines.pop(ENGINE)
        if donor := donor_of(line, donors):
            copy_distribution(donor[ENGINE], packages)
        else:
            _build_engine(site, line, installer, options)
    if lines:
        shown = sorted(lines.values())
        site.say(f"installs {', '.join(shown)} with {installer.name}; log: {site.log}")
        _install(site, shown, installer, options)
    made = Installed([packages])
    # Of another version something may need what nothing needs here.
    for name in no_longer_asked(set(plan.removes), set(), made, ()):
        remove(made[name])
    for each in plan.own:
        describe(each, packages)
    return packages


def _build_engine(site: Site, line: str, installer: Installer, options: Sequence[str]) -> None:
    built = f" with {site.flags}" if site.flags else ""
    site.say(f"builds {line}{built}, {BUILD_TIME}; log: {site.log}")
    # The build's gigabyte lies where it is removed even after a kill.
    scratch = site.folder / "build"
    scratch.mkdir()
    _install(site, [line], installer, options, unbuilt=ENGINE, TMPDIR=str(scratch))
    shutil.rmtree(scratch, ignore_errors=True)


def _install(
    site: Site,
    lines: Sequence[str],
    installer: Installer,
    options: Sequence[str],
    unbuilt: str | None = None,
    **variables: str,
) -> None:
    file = site.folder / "llmperf-requirements.txt"
    file.write_text("\n".join([*options, *lines, ""]), encoding="utf-8")
    by_flags = "set CMAKE_ARGS to build it in another way; " if unbuilt else ""
    run_logged(
        installer.install(interpreter(site.folder), file, unbuilt=unbuilt),
        site.log,
        f"installing {' '.join(lines)} with {installer.name}",
        cwd=site.other_tree,
        environ=clean_environment(os.environ, **_engine_variables(site.flags), **variables),
        say=site.say,
        advice=f"{by_flags}or {BY_HAND}",
    )


def donor_of(line: str, donors: Sequence[Path]) -> Installed | None:
    """Return an environment that has the engine which a requirement asks for, if there is one."""
    requirement = parse(line)
    for donor in donors:
        installed = Installed([donor])
        if requirement is not None and not requirement.url and installed.satisfies(requirement):
            return installed
    return None


def build_by_hand(
    site: Site, own: Sequence[Distribution], installed: Installed, command: str
) -> Path:
    """Make an environment with the user's own command, and return its folder of packages.

    The project itself is taken out again, as its modules come from the tree.

    Args:
        site: where.
        own: the project's own distributions.
        installed: this environment's distributions.
        command: the command line; ``{python}`` stands for the environment's interpreter.

    Raises:
        InstallError: it cannot be split into words, or failed.
        OSError: the disk is full, or the like.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InstallError(f"perf.base_install: {error} in {command!r}; check its quotes") from None
    if not words:
        raise InstallError("perf.base_install is empty; leave it out, or name a command")
    packages = make_venv(site.folder, site.log, sees_base=False)
    python = interpreter(site.folder)
    words = [word.replace("{python}", str(python)) for word in words]
    _add_pip(site, installed, packages)
    site.say(f"runs {shlex.join(words)}; log: {site.log}")
    run_logged(
        words,
        site.log,
        "perf.base_install",
        cwd=site.other_tree,
        environ=clean_environment(
            os.environ,
            VIRTUAL_ENV=str(site.folder),
            UV_PROJECT_ENVIRONMENT=str(site.folder),
            PATH=os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
            **_engine_variables(site.flags),
        ),
        say=site.say,
        advice="this is the command of perf.base_install; correct it there",
    )
    # The environment outlives this tree, so that its modules must not be in there, nor
    # a pointer to them; only who they are is kept.
    made, area = Installed([packages]), repository_around(site.other_tree)
    for each in own:
        if each.name in made:
            remove(made[each.name])
        describe(each, packages)
    for each in made.values():
        source = each.source()
        if source is not None and source.resolve().is_relative_to(area):
            describe(each, packages)
    return packages


def _add_pip(site: Site, installed: Installed, packages: Path) -> None:
    """Put a pip into a new environment: this one's, or Python's own copy if it has one."""
    if "pip" in installed:
        copy_distribution(installed["pip"], packages)
        return
    try:
        run_logged(
            [str(interpreter(site.folder)), "-I", "-m", "ensurepip"],
            site.log,
            "adding pip",
            cwd=site.log.parent,
            environ=clean_environment(os.environ),
        )
    except InstallError:  # the command may do without, and says so if not
        return


def _engine_variables(flags: str) -> dict[str, str]:
    return {"CMAKE_ARGS": flags, "FORCE_CMAKE": "1"} if flags else {}
