"""Builds one environment: a venv with copied packages, completed by an installer."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.declarations import parse, repository_around
from pytest_llmperf.packages.installed import (
    ENGINE,
    NOT_COPIED,
    Distribution,
    Installed,
    site_folders,
)
from pytest_llmperf.packages.installers import (
    INSTALL_ADVICE,
    Installer,
    InstallError,
    clean_environment,
    run_logged,
)
from pytest_llmperf.packages.needs import Needs, no_longer_needed
from pytest_llmperf.packages.venv import (
    copy_distribution,
    copy_packages,
    interpreter,
    make_venv,
    remove,
    visible_base_folders,
    write_metadata,
)

#: How long it takes to build an engine from source, on two to a dozen cores.
BUILD_TIME, LONGEST_BUILD_S = "3 to 6 minutes", 360.0


@dataclass(frozen=True)
class Site:
    """Place, log and contents of one environment's build.

    Attributes:
        folder: of the environment.
        log: the file for the installers' output.
        this_tree: the project folder of this environment.
        other_tree: the project folder that the new one is for.
        own: the project's own distributions; only their metadata is copied.
        flags: CMAKE_ARGS for an engine that has to be built.
        say: called with a line before and during long steps.
    """

    folder: Path
    log: Path
    this_tree: Path
    other_tree: Path
    own: Sequence[Distribution]
    flags: str
    say: Callable[[str], None]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables of an installer that may build an engine."""
        if self.flags:
            more |= {"CMAKE_ARGS": self.flags, "FORCE_CMAKE": "1"}
        return clean_environment(os.environ, **more)


def build(site: Site, needs: Needs, installer: Installer, donors: Sequence[Path]) -> Path:
    """Copy this environment, have an installer complete it, and return its folder of packages.

    ``donors`` are folders of packages whose engine was built with the same flags.

    Raises:
        InstallError: an installer failed.
        OSError: the disk is full, or the like.
    """
    base = visible_base_folders()
    packages = make_venv(site.folder, site.log, sees_base=bool(base))
    own_folders = [folder for folder in site_folders() if folder not in base]
    copy_packages(own_folders, packages, repository_around(site.this_tree))
    copied = Installed([packages])
    donor = donor_of(needs.engine, donors)
    replaced = {*NOT_COPIED, *(package.name for package in site.own), *([ENGINE] if donor else [])}
    for name in copied.keys() & replaced:
        remove(copied[name])
    if donor:
        copy_distribution(donor[ENGINE], packages)
    if needs.installs:
        _install(site, needs, installer, compiles=bool(needs.engine) and not donor)
    made, area = Installed([packages]), repository_around(site.other_tree)
    for package in made.below(area):
        remove(package)
    # Another version of a package may need packages that nothing needs in this environment.
    for name in no_longer_needed(needs.dropped, made):
        remove(made[name])
    for package in site.own:
        write_metadata(package, packages)
    return packages


def _install(site: Site, needs: Needs, installer: Installer, *, compiles: bool) -> None:
    left = [line for line in needs.installs if compiles or line != needs.engine]
    shown = ", ".join(left) or f"what {needs.engine} needs"
    if compiles:
        built = f" with {site.flags}" if site.flags else ""
        site.say(f"building {needs.engine}{built}, {BUILD_TIME}; log: {site.log}")
    site.say(f"installing {shown} with {installer.name}; log: {site.log}")
    asked, limits = site.folder / "llmperf-requirements.txt", site.folder / "llmperf-limits.txt"
    lines = [*needs.options, *needs.kept, *needs.new]
    asked.write_text("\n".join([*lines, ""]), encoding="utf-8")
    limits.write_text("\n".join([*needs.limits, ""]), encoding="utf-8")
    # The build's temporary gigabyte is kept where it is removed even after a kill.
    scratch = site.folder / "build"
    scratch.mkdir()
    by_flags = "set CMAKE_ARGS to build it in another way; " if compiles else ""
    run_logged(
        installer.install(
            interpreter(site.folder),
            ["-r", str(asked), "-c", str(limits), *needs.folders],
            from_source=ENGINE if compiles or needs.folders else "",
        ),
        site.log,
        f"installing {shown} with {installer.name}",
        cwd=site.other_tree,
        environ=site.environment(TMPDIR=str(scratch)),
        say=site.say,
        advice=f"{by_flags}or {INSTALL_ADVICE}",
    )
    shutil.rmtree(scratch, ignore_errors=True)


def donor_of(line: str, donors: Sequence[Path]) -> Installed | None:
    """Return the donor environment whose engine meets a requirement, if any."""
    requirement = parse(line)
    for donor in donors:
        installed = Installed([donor])
        if requirement is not None and not requirement.url and installed.satisfies(requirement):
            return installed
    return None


def build_by_command(site: Site, installed: Installed, command: str) -> Path:
    """Make an environment with the user's own command, and return its folder of packages.

    The project itself is removed again, as its modules come from the tree. In the command
    line, ``{python}`` stands for the environment's interpreter.

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
    packages = make_venv(site.folder, site.log, pip="pip" not in installed)
    if "pip" in installed:  # quicker, and Python's own copy may be missing
        copy_distribution(installed["pip"], packages)
    python = interpreter(site.folder)
    words = [word.replace("{python}", str(python)) for word in words]
    site.say(f"running {shlex.join(words)}; log: {site.log}")
    run_logged(
        words,
        site.log,
        "perf.base_install",
        cwd=site.other_tree,
        environ=site.environment(
            VIRTUAL_ENV=str(site.folder),
            UV_PROJECT_ENVIRONMENT=str(site.folder),
            PATH=os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
        ),
        say=site.say,
        advice="this is the command of perf.base_install; correct it there",
    )
    # The environment outlives this tree, so it must not contain the tree's modules or
    # links to them; only their metadata is kept.
    made, area = Installed([packages]), repository_around(site.other_tree)
    for package in site.own:
        if package.name in made:
            remove(made[package.name])
        write_metadata(package, packages)
    for package in made.below(area):
        write_metadata(package, packages)
    return packages
