"""What a project folder declares to need, in a form in which only what matters can differ."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.lists import DependencyList, Key, Part
from pytest_llmperf.packages.pyproject import read_pyproject, read_toml
from pytest_llmperf.packages.requirement_file import read_requirement_file, read_text
from pytest_llmperf.packages.setup_files import read_setup_cfg, read_setup_py
from pytest_llmperf.packages.tables import requirements_of

#: Read in a project folder, each by its own reader.
_READERS: dict[str, Callable[[Path, str], Part]] = {
    "pyproject.toml": read_pyproject,
    "setup.cfg": read_setup_cfg,
    "setup.py": read_setup_py,
}
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock*.toml")
_CONDA = ("environment.yml", "environment.yaml")
_REQUIREMENTS = ("*requirements*.txt", "requirements/*.txt")


@dataclass(frozen=True)
class Declarations:
    """What one tree declares.

    Attributes:
        tree: its project folder.
        lists: by key.
        locks: lock file -> SHA-256 of its content.
        unreadable: what can be compared but not understood -> a text of it.
        packages: folder of a package's source (posix, from the tree) -> its names, canonical.
        main: those folders that are always installed: the project's, and others asked for.
        files: those that contributed, posix paths from the tree, sorted.
    """

    tree: Path
    lists: Mapping[Key, DependencyList]
    locks: Mapping[str, str]
    unreadable: Mapping[str, str]
    packages: Mapping[str, frozenset[str]]
    main: frozenset[str]
    files: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of all packages whose source the tree holds, canonical."""
        return frozenset().union(*self.packages.values())

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex, equal where the same is declared; comments do not count."""
        lists = [
            [*each.key, each.lines, sorted(each.includes), each.constraints, each.options]
            for _, each in sorted(self.lists.items())
        ]
        content = [lists, sorted(self.locks.items()), sorted(self.unreadable.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def differences(self, other: Declarations) -> tuple[str, ...]:
        """Say what differs, a line each: ``requirements.txt: toy==1 there, toy==2 here``.

        Args:
            other: the other tree's ("there"); these are the ones "here".
        """
        lines: list[str] = []
        for key in sorted({*self.lists, *other.lists}):
            lines += _between(self.lists.get(key), other.lists.get(key))
        for here, there in ((self.locks, other.locks), (self.unreadable, other.unreadable)):
            for name in sorted({*here, *there}):
                if here.get(name) != there.get(name):
                    lines.append(f"{name}: {_which(name in there, name in here)}")
        return tuple(lines)


def declared(tree: Path, also: Iterable[str] = ()) -> Declarations:
    """Read what the project folder ``tree`` declares; a folder without any such file is fine.

    Args:
        tree: the folder.
        also: folders of further packages of the project (posix, from the tree), such as
            the siblings of a repository of several packages.

    Raises:
        DeclarationError: a file cannot be read or parsed; names file and line.
    """
    return _Collector(tree, also).collect()


class _Collector:
    """Reads the files of a folder, and those and the local packages that they name."""

    def __init__(self, tree: Path, also: Iterable[str]) -> None:
        self._tree = tree
        self._main = frozenset({".", *also})
        self._lists: dict[Key, DependencyList] = {}
        self._locks: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        self._packages: dict[str, frozenset[str]] = {}
        self._files: set[str] = set()

    def collect(self) -> Declarations:
        for folder in sorted(self._main):
            self._folder(folder)
        for pattern in _REQUIREMENTS:
            for path in _matching(self._tree, pattern):
                self._requirements(self._named(path))
        for path in _matching(self._tree, "*constraints*.txt"):
            self._constraints(self._named(path))
        for pattern in _LOCKS:
            for path in _matching(self._tree, pattern):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                self._locks[self._named(path)] = content
        for name in _CONDA:
            if (self._tree / name).is_file():
                self._unreadable[name] = _without_comments(read_text(self._tree / name))
        if (self._tree / "Pipfile").is_file():
            self._pipfile()
        self._follow()
        files = {*self._files, *self._locks, *(name.split(" ")[0] for name in self._unreadable)}
        return Declarations(
            self._tree,
            self._lists,
            self._locks,
            self._unreadable,
            self._packages,
            self._main,
            tuple(sorted(files)),
        )

    def _named(self, path: Path) -> str:
        return path.relative_to(self._tree).as_posix()

    def _folder(self, folder: str) -> None:
        """Read the files that describe the package in ``folder``."""
        for name, read in _READERS.items():
            file = posixpath.normpath(posixpath.join(folder, name))
            path = self._tree / file
            if file in self._files or not path.is_file():
                continue
            part = read(path, file)
            if part.lists or part.unreadable or part.names:
                self._files.add(file)
            self._add(part)
            self._unreadable |= part.unreadable
            self._packages[folder] = self._packages.get(folder, frozenset()) | part.names

    def _add(self, part: Part) -> None:
        self._lists |= {each.key: each for each in part.lists}

    def _requirements(self, file: str) -> None:
        key = Key(file, "file")
        path = self._tree / file
        if key in self._lists or not path.is_file():
            return
        read = read_requirement_file(path, self._tree)
        self._files.add(file)
        self._lists[key] = DependencyList(
            key,
            tuple(sorted(set(read.lines))),
            tuple(Key(name, "file") for name in read.includes),
            read.constraints,
            read.options,
        )

    def _constraints(self, file: str) -> None:
        key = Key(file, "constraints")
        path = self._tree / file
        if key in self._lists or not path.is_file():
            return
        read = read_requirement_file(path, self._tree)
        self._files.add(file)
        named = (*read.includes, *read.constraints)
        includes = tuple(Key(name, "constraints") for name in named)
        self._lists[key] = DependencyList(key, tuple(sorted(set(read.lines))), includes)

    def _pipfile(self) -> None:
        data = read_toml(self._tree / "Pipfile")
        self._files.add("Pipfile")
        part = Part()
        for section, kind in (("packages", "project"), ("dev-packages", "group")):
            table = data.get(section)
            if isinstance(table, Mapping):
                lines = [line for n, v in table.items() for line in requirements_of(n, v)]
                name = "dev" if kind == "group" else ""
                part.add(Key("Pipfile", "group" if name else "project", name), lines)
        self._add(part)

    def _follow(self) -> None:
        """Read included files and local packages until nothing new is named."""
        done: set[Key] = set()
        while todo := [key for key in self._lists if key not in done]:
            for key in todo:
                done.add(key)
                each = self._lists[key]
                for included in each.includes:
                    if included.kind == "file":
                        self._requirements(included.file)
                    elif included.kind == "constraints":
                        self._constraints(included.file)
                for name in each.constraints:
                    self._constraints(name)
                for line in each.lines:
                    if found := specs.parse_local(line):
                        self._folder(found[0])


def _matching(tree: Path, pattern: str) -> list[Path]:
    try:
        return sorted(path for path in tree.glob(pattern) if path.is_file())
    except OSError:
        return []


def _without_comments(text: str) -> str:
    lines = (line.partition(" #")[0].rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))


def _which(there: bool, here: bool) -> str:
    if there and here:
        return "not the same there and here"
    return "only there" if there else "only here"


def _between(here: DependencyList | None, there: DependencyList | None) -> Iterator[str]:
    """Say what differs between two lists of one key."""
    either = here or there
    if either is None or here == there:
        return
    label = either.label
    if either.key.kind == "settings":
        yield f"{label}: {_which(there is not None, here is not None)}"
        return
    ours, theirs = _by_name(here), _by_name(there)
    for name in sorted({*ours, *theirs}):
        mine, other = ours.get(name), theirs.get(name)
        if mine != other:
            yield f"{label}: {_side(other, 'there')}, {_side(mine, 'here')}"
    if here is None or there is None:
        if not ours and not theirs:
            yield f"{label}: {_which(there is not None, here is not None)}"
    elif (here.includes, here.constraints) != (there.includes, there.constraints):
        yield f"{label}: includes other files there than here"
    if (here.options if here else ()) != (there.options if there else ()):
        yield f"{label}: other installer options there than here"


def _by_name(each: DependencyList | None) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for line in each.lines if each else ():
        name = "" if each and each.key.kind == "python" else specs.name_of(line)
        found.setdefault(name, []).append(specs.without_options(line))
    return {name: " and ".join(lines) for name, lines in found.items()}


def _side(lines: str | None, where: str) -> str:
    return f"{lines} {where}" if lines else f"not {where}"
