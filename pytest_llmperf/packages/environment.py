"""The environment that another commit's tree runs in: this one, or one of its own, cached."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.building import (
    BUILD_TIME,
    LONGEST_BUILD_S,
    Plan,
    Site,
    build,
    build_by_hand,
    donor_of,
)
from pytest_llmperf.packages.declarations import (
    Declarations,
    check_installable,
    declared,
    repository_around,
)
from pytest_llmperf.packages.editable import from_repository
from pytest_llmperf.packages.engine_build import build_flags
from pytest_llmperf.packages.errors import InstallError
from pytest_llmperf.packages.followed import no_longer_asked
from pytest_llmperf.packages.identity import digest, engine_digest, state_of
from pytest_llmperf.packages.installed import (
    ENGINE,
    NOT_COPIED,
    PLUGIN,
    Distribution,
    Installed,
    installed_here,
    site_folders,
)
from pytest_llmperf.packages.installer import Installer, find_installer
from pytest_llmperf.packages.requirement_files import parse
from pytest_llmperf.packages.resolution import Side, changes_between, sides
from pytest_llmperf.packages.store import Entry
from pytest_llmperf.packages.venv import interpreter, seen_base

__all__ = ["Environment", "InstallError", "environment_for"]

#: Part of every name in the cache: what was made in another way is not taken for this.
_LAYOUT = 2
#: Differences reported in one line.
_SHOWN = 6


@dataclass(frozen=True)
class Environment:
    """Where a tree's processes run.

    Attributes:
        python: the interpreter's path.
        shared: whether it is this one.
        note: one line for the report, such as ``own environment: toy 1.0 (2.0 here)``.
    """

    python: str
    shared: bool
    note: str


def environment_for(
    here: Path,
    there: Path,
    cache: Path,
    say: Callable[[str], None],
    install: str | None = None,
    seconds: float | None = None,
) -> Environment:
    """Return the environment for the tree ``there``, building it if the cache has none.

    This one if both trees declare the same, or an installer finds that they need the
    same packages; else one that differs from this one only in what they need. It
    appears whole or not at all, whatever kills this process when; of several builders
    of the same one, one builds.

    Args:
        here: the project folder that this interpreter's environment is made for.
        there: the same folder of another work tree.
        cache: the folder under which environments and their logs are kept.
        say: gets a line before and while something takes long.
        install: a command line that installs the other tree's packages, instead of an
            installer that is chosen; ``{python}`` stands for the new environment's interpreter.
        seconds: how long that may take. An engine is not built from source if that may take
            longer; None builds it in any case.

    Raises:
        InstallError: it cannot be had; the message names the log and what to do.
    """
    if not sys.executable:
        raise InstallError("this Python does not know its own program; start it by its path")
    here, there = here.resolve(), there.resolve()
    installed = installed_here()
    of_repository = from_repository(repository_around(here), installed, site_folders())
    homes = (each.home().resolve() for each in of_repository)
    also = sorted(Path(os.path.relpath(home, here)).as_posix() for home in homes)
    ours, theirs = declared(here, also), declared(there, also)
    if not ours.changed(theirs):
        return _shared("both declare the same")
    if not theirs.texts and not install:
        return _shared("the other commit declares nothing")
    own = [each for name, each in installed.items() if name in ours.names | theirs.names]
    own += [each for each in of_repository if each not in own]
    maker = _Maker(ours, theirs, installed, tuple(own), cache / "environments", say, seconds)
    try:
        return maker.by_hand(install) if install else maker.by_installer()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InstallError(
            f"no environment for the other commit can be made in {cache / 'environments'}: "
            f"{reason}; free space there, or set LLMPERF_CACHE_DIR to a folder on another disk"
        ) from None


def _shared(why: str) -> Environment:
    return Environment(sys.executable, True, f"shared: {why}")


@dataclass(frozen=True)
class _Maker:
    """Finds or makes the environment of one tree whose declarations are not this one's."""

    ours: Declarations
    theirs: Declarations
    installed: Installed
    own: tuple[Distribution, ...]
    store: Path
    say: Callable[[str], None]
    seconds: float | None

    def by_hand(self, install: str) -> Environment:
        flags = build_flags(self.installed.get(ENGINE), os.environ)
        python = state_of(())
        entry = self._entry("by hand", dict(self.theirs.texts), install, flags, python)
        return self._made(
            entry,
            flags,
            f"{self._files()} differ",
            lambda site: build_by_hand(site, self.own, self.installed, install),
        )

    def by_installer(self) -> Environment:
        check_installable(self.ours, self.theirs)
        lock = "uv.lock" in self.ours.changed(self.theirs) and "uv.lock" in self.theirs.texts
        only_uv = lock and "uv.lock" in self.ours.texts
        installer = find_installer(self.installed, os.environ, only_uv=only_uv)
        here, there = sides(self.ours, self.theirs, self.installed, installer)
        flags = build_flags(self.installed.get(ENGINE), os.environ)
        engine = engine_digest(flags, os.environ)
        plan = self._plan(here, there, self._changes(here, there, installer, engine))
        if not plan.installs and not plan.removes:
            return _shared("both need the same packages")
        builds = ENGINE in plan.installs
        flags = flags if builds else ""
        base = seen_base()
        left_out = {*plan.replaced, *plan.removes}
        copied = [each for name, each in self.installed.items() if name not in left_out]
        entry = self._entry(
            "installed",
            dict(plan.installs),
            [[each.name, each.version] for each in plan.own],
            flags,
            list(map(str, base)),
            state_of(copied),
        )

        def builder(site: Site) -> Path:
            return build(site, plan, installer, there.options, entry.donors(engine))

        removed = (f"without {name}" for name in sorted(plan.removes))
        said = _few([*sorted(plan.installs.values()), *removed], ", ")
        if not builds:
            return self._made(entry, flags, said, builder, base)
        line = plan.installs[ENGINE]
        return self._made(entry, flags, said, builder, base, engine, line)

    def _plan(self, here: Side, there: Side, changes: dict[str, str]) -> Plan:
        own = {*NOT_COPIED, *(each.name for each in self.own), *self.ours.names}
        own |= self.theirs.names
        removes: set[str] = set()
        if there.is_readable:
            removes = no_longer_asked(here.names, there.names, self.installed, own - {PLUGIN})
        installs = {name: line for name, line in changes.items() if name not in own}
        return Plan(installs, removes - own, self.own)

    def _changes(
        self, here: Side, there: Side, installer: Installer, engine: str
    ) -> dict[str, str]:
        """Return what the installer would install for the other tree, asked once."""
        followed = [sorted(side.followed) for side in (here, there)]
        named = [side.lists.get(name) for side in (here, there) for name in sorted(side.followed)]
        state = state_of(self.installed.values())
        texts = [dict(self.ours.texts), dict(self.theirs.texts)]
        entry = self._entry("resolved", installer.name, followed, named, state, texts)
        with entry.locked():
            found = entry.read().get("changes")
            if isinstance(found, dict):
                return found
            for line in there.lines_of(ENGINE):
                self._check_time(entry, engine, line)
            self.say(
                f"the other commit declares other packages ({self._files()}): "
                f"finding out with {installer.name} whether it needs others"
            )
            with entry.folder() as folder:
                found = changes_between(
                    here, there, self.installed, installer, folder, entry.log, self.say
                )
                entry.publish({"changes": found})
            return found

    def _made(
        self,
        entry: Entry,
        flags: str,
        why: str,
        builder: Callable[[Site], Path],
        base: Sequence[Path] = (),
        engine: str = "",
        line: str = "",
    ) -> Environment:
        """Return the environment of an entry, letting ``builder`` make it if there is none.

        ``line`` asks for an engine, and ``engine`` tells builds of it apart.
        """
        with entry.locked():
            if found := entry.find_environment():
                return Environment(str(found[0]), False, found[1])
            compiles = bool(line) and self._check_time(entry, engine, line)
            built = f"; its engine is built from source, {BUILD_TIME}" if compiles else ""
            self.say(f"makes an environment for the other commit: {why}{built}")
            with entry.folder() as folder:
                trees = self.ours.tree, self.theirs.tree
                packages = builder(Site(folder, entry.log, *trees, flags, self.say))
                note = self._note(Installed([packages, *base]))
                stamp = {"folder": folder.name, "packages": str(packages)}
                entry.publish(stamp | {"note": note, "engine": engine})
            return Environment(str(interpreter(folder)), False, note)

    def _check_time(self, entry: Entry, engine: str, line: str) -> bool:
        """Say whether the engine that ``line`` asks for has to be built from source.

        Raises:
            InstallError: it has to, and that may take longer than there is time.
        """
        wanted = parse(line)
        if wanted and (self.installed.satisfies(wanted) or donor_of(line, entry.donors(engine))):
            return False
        if self.seconds is not None and self.seconds < LONGEST_BUILD_S:
            raise InstallError(
                f"it needs {line} built from source, {BUILD_TIME}, and "
                f"{max(self.seconds, 0):.0f} s are left of perf.budget; raise perf.budget, or run "
                "the tests once with --llmperf-against that commit, which builds it before the "
                "budget begins and keeps it"
            )
        return True

    def _entry(self, *content: object) -> Entry:
        return Entry(self.store, digest([_LAYOUT, *content]), self.say)

    def _files(self) -> str:
        return _few(self.ours.changed(self.theirs), ", ")

    def _note(self, there: Installed) -> str:
        """Say in which packages the environment differs from this one."""
        here = self.installed
        changed, added, left_out = [], [], []
        for name in sorted({*here, *there} - NOT_COPIED - {each.name for each in self.own}):
            ours, theirs = here.get(name), there.get(name)
            if ours and theirs and ours.version != theirs.version:
                changed.append(f"{name} {theirs.version} ({ours.version} here)")
            elif theirs and not ours:
                added.append(f"{name} {theirs.version} (not here)")
            elif ours and not theirs:
                left_out.append(f"without {name} ({ours.version} here)")
        said = [*changed, *added, *left_out]
        if not said:
            return f"own environment: the same versions, declared differently ({self._files()})"
        return f"own environment: {_few(said, ', ')}"


def _few(lines: Sequence[str], joint: str) -> str:
    more = [f"{len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return joint.join([*lines[:_SHOWN], *more])
