"""Works out what the other tree's environment holds: this one's packages, but for what differs."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pytest_llmperf.packages import pins, specs
from pytest_llmperf.packages.active import active_here, active_there
from pytest_llmperf.packages.declarations import Declarations
from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.installed import Distribution, Installed, Wanted
from pytest_llmperf.packages.lists import DependencyList, Key

ENGINE = "llama-cpp-python"
PLUGIN = "pytest-llmperf"
#: What the engine's worker imports, whoever declares it.
_ALWAYS = (ENGINE, "numpy", PLUGIN)
#: Not copied: installers work from outside, and the plugin comes from the session.
_NEVER = frozenset({"pip", "uv", PLUGIN})
#: Options of a requirements file that say where packages come from, and in which form.
_OPTIONS = (
    *("-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--pre"),
    *("--trusted-host", "--no-binary", "--only-binary", "--prefer-binary"),
)
_CONDA = ("environment.yml", "environment.yaml")


@dataclass
class Plan:
    """What to put into the environment.

    Attributes:
        copied: distributions taken over from this environment.
        described: those of the project itself, of which only the metadata is taken.
        needed: name -> requirements for the installer, because nothing here meets them.
        unnamed: requirements for the installer without a name.
        sources: folders of the tree that are to be installed from, absolute.
        constraints: lines of a constraints file for the installer.
        options: of the installer, such as ``--extra-index-url ...``.
        asked: what the tree declares to need, and the engine's worker.
        others: names of what is here for other reasons than this tree's declarations.
        ours: names of what this tree's declarations asked for.
    """

    copied: list[Distribution] = field(default_factory=list)
    described: list[Distribution] = field(default_factory=list)
    needed: dict[str, list[str]] = field(default_factory=dict)
    unnamed: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    asked: list[Wanted] = field(default_factory=list)
    others: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()

    def lines(self) -> list[str]:
        """Return all requirements for the installer; hashes only if each of them has one."""
        lines = [*self.unnamed, *(line for each in self.needed.values() for line in each)]
        lines = sorted(set(lines)) + [str(source) for source in self.sources]
        if all("--hash" in line for line in lines):
            return lines
        return [specs.without_options(line) for line in lines]

    def installs(self) -> bool:
        """Say whether an installer is needed at all."""
        return bool(self.needed or self.unnamed or self.sources)

    def surplus(self, installed: Installed) -> set[str]:
        """Return what of an environment only this tree's declarations asked for."""
        return (installed.keys() & self.ours) - self.wanted(installed)

    def wanted(self, installed: Installed) -> set[str]:
        """Return what of an environment is there for the other tree, or for nobody known."""
        return installed.closure([*self.asked, *((name, frozenset()) for name in self.others)])


def own_distributions(
    ours: Declarations, theirs: Declarations, installed: Installed, editable: list[Distribution]
) -> list[Distribution]:
    """Return the distributions of the project itself, in whatever way they are installed."""
    names = {*_main_names(ours), *_main_names(theirs)}
    named = {name: installed[name] for name in sorted(names) if name in installed}
    return list((named | {each.name: each for each in editable}).values())


def make_plan(
    ours: Declarations, theirs: Declarations, installed: Installed, own: Collection[Distribution]
) -> Plan:
    """Work out what the tree that declares ``theirs`` needs.

    Args:
        ours: what the tree of this environment declares.
        theirs: what the other tree declares.
        installed: this environment's distributions.
        own: those of them that are the project's own (``own_distributions``).

    Raises:
        InstallError: it asks for another Python, or its needs cannot be read.
    """
    _check_python(ours, theirs)
    _check_readable(ours, theirs)
    return _Planner(ours, theirs, installed, own).plan()


class _Planner:
    def __init__(
        self,
        ours: Declarations,
        theirs: Declarations,
        installed: Installed,
        own: Collection[Distribution],
    ) -> None:
        self._ours = ours
        self._theirs = theirs
        self._installed = installed
        self._own = {each.name for each in own}
        self._own |= {name for tree in (ours, theirs) for name in _main_names(tree)}
        self._plan = Plan(described=list(own))
        self._here = active_here(ours, installed)
        self._there = active_there(ours, theirs, self._here)

    def plan(self) -> Plan:
        plan = self._plan
        self._undeclared()
        for key in sorted(self._there):
            for line in self._theirs.lists[key].lines:
                self._line(self._theirs.lists[key], line)
            self._options(self._theirs.lists[key])
        self._pins()
        for name in sorted(self._installed):
            if name not in plan.needed and name not in self._own | _NEVER:
                plan.copied.append(self._installed[name])
        return plan

    def _undeclared(self) -> None:
        """Keep what is here for other reasons than this tree's declarations."""
        wanted = []
        for key in self._here:
            for line in self._ours.lists[key].lines:
                requirement = specs.parse(line)
                if requirement and specs.applies(requirement):
                    wanted.append(_wanted(requirement))
        self._plan.ours = frozenset(self._installed.closure(wanted) - self._own)
        others = self._installed.keys() - self._plan.ours - self._own - _NEVER
        # The plugin is not copied, so that what it needs is named here.
        worker = self._installed.closure((name, frozenset()) for name in _ALWAYS)
        self._plan.asked += [(name, frozenset()) for name in sorted(worker)]
        kept = self._installed.closure((name, frozenset()) for name in others)
        self._plan.others = frozenset(kept)

    def _line(self, each: DependencyList, line: str) -> None:
        plan = self._plan
        same = self._followed_here(line)
        if found := specs.parse_local(line):
            self._local(*found)
            return
        requirement = specs.parse(line)
        if requirement is None:
            if each.key.kind == "file" and not same:
                plan.unnamed.append(line)
            elif not same:
                raise InstallError(
                    f"{self._theirs.tree / each.key.file}: {each.label} holds {line!r}, which no "
                    f"installer understands; {BY_HAND}"
                )
            return
        name = canonicalize_name(requirement.name)
        if not specs.applies(requirement) or name in self._own or name == PLUGIN:
            return
        plan.asked.append(_wanted(requirement))
        if same:
            return
        if self._installed.satisfies(requirement):
            if requirement.specifier and not requirement.url:
                plan.constraints.append(f"{name}{requirement.specifier}")
        else:
            plan.needed.setdefault(name, []).append(line)

    def _followed_here(self, line: str) -> bool:
        """Say whether this tree asks for the very same: then what is here for it will do."""
        return any(line in self._ours.lists[key].lines for key in self._here)

    def _local(self, folder: str, extras: frozenset[str]) -> None:
        """Take a package inside the tree from there, unless its modules come from the tree."""
        names = self._theirs.packages.get(folder, frozenset())
        if folder == "." or names & self._own:
            return
        source = (self._theirs.tree / folder).resolve()
        for name in names:
            self._plan.asked.append((name, extras))
            self._plan.needed.setdefault(name, [])
        self._plan.sources.append(source)

    def _options(self, each: DependencyList) -> None:
        for option in each.options:
            head, _, value = option.partition(" ")
            if head.partition("=")[0] not in _OPTIONS:
                continue
            folder = self._theirs.tree / value
            local = head in ("-f", "--find-links") and folder.exists()
            spelled = f"{head} {folder.resolve()}" if local else option
            if spelled not in self._plan.options:
                self._plan.options.append(spelled)

    def _pins(self) -> None:
        """Apply lock and constraints files, where what is installed follows this tree's."""
        stays = self._plan.wanted(self._installed)
        for ours, theirs in self._pin_files():
            for name, specifier in sorted(theirs.items()):
                if name in self._own or name in _NEVER:
                    continue
                found = self._installed.get(name)
                if found is None or name in self._plan.needed:
                    # A tree's own exact requirement is worth more than a pin it forgot.
                    if not _contradicts(self._plan.needed.get(name, ()), specifier):
                        self._plan.constraints.append(f"{name}{specifier}")
                    continue
                # Drifted from this tree's pin, or pinned by nobody: the other's says nothing.
                followed = name in ours and specs.holds(found.version, ours[name])
                if not followed or ours[name] == specifier:
                    continue
                self._plan.constraints.append(f"{name}{specifier}")
                if not specs.holds(found.version, specifier) and name in stays:
                    self._plan.needed.setdefault(name, []).append(f"{name}{specifier}")

    def _pin_files(self) -> Iterable[tuple[dict[str, str], dict[str, str]]]:
        for file in self._theirs.locks:
            ours = pins.of_lock(self._ours.tree / file) if file in self._ours.locks else {}
            yield ours, pins.of_lock(self._theirs.tree / file)
        for key in self._theirs.lists:
            if key.kind == "constraints":
                yield _pinned(self._ours, key), _pinned(self._theirs, key)


def _main_names(tree: Declarations) -> set[str]:
    """Return the names of the packages that are always installed from the tree itself."""
    return {name for folder in tree.main for name in tree.packages.get(folder, ())}


def _wanted(requirement: Requirement) -> Wanted:
    extras = frozenset(canonicalize_name(extra) for extra in requirement.extras)
    return canonicalize_name(requirement.name), extras


def _contradicts(lines: Iterable[str], specifier: str) -> bool:
    """Say whether an exact version among requirements is outside of a specifier."""
    requirements = filter(None, map(specs.parse, lines))
    exact = [one for each in requirements for one in each.specifier if one.operator == "=="]
    return any(not specs.holds(one.version.removesuffix(".*"), specifier) for one in exact)


def _pinned(of: Declarations, key: Key) -> dict[str, str]:
    return pins.of_lines(of.lists[key].lines) if key in of.lists else {}


def _check_python(ours: Declarations, theirs: Declarations) -> None:
    version = platform.python_version()
    for key, each in theirs.lists.items():
        if ours.lists.get(key) == each:
            continue
        folder = key.file.rpartition("/")[0] or "."
        for line in each.lines if key.kind == "python" and folder in theirs.main else ():
            if not specs.holds(version, line):
                raise InstallError(
                    f"{theirs.tree / key.file} asks for Python {line}, and this is {version}: "
                    "compare with a Python that both commits accept"
                )


def _check_readable(ours: Declarations, theirs: Declarations) -> None:
    readable = any(key.kind in ("project", "file") for key in theirs.lists)
    for name, text in theirs.unreadable.items():
        if ours.unreadable.get(name) == text or (name in _CONDA and readable):
            continue
        raise InstallError(
            f"{theirs.tree / name}: other than here, and what it asks for cannot be read "
            f"without running it; {BY_HAND}"
        )
