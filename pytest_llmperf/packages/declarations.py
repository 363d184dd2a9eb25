"""The dependencies that a tree declares, in its pyproject.toml and requirements files."""

from __future__ import annotations

import codecs
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from pytest_llmperf.packages.installers import INSTALL_ADVICE, InstallError

# Imported by name, so that a type checker for a single Python version accepts it.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

UV_LOCK = "uv.lock"
#: Files that a build backend reads.
_BUILT_FROM = ("pyproject.toml", "setup.py", "setup.cfg")
#: Files that uv and pip do not install from.
_CONDA = ("environment.yml", "environment.yaml")
_OTHER_TOOLS = ("Pipfile", "Pipfile.lock", "poetry.lock", "pdm.lock", "pylock.toml", *_CONDA)

_COMMENT = re.compile(r"(^|\s)#.*$")
_INCLUDED = re.compile(
    r"^(?P<option>-r|--requirement|-c|--constraint)(?:[ =]+|(?<=-[rc]))(?P<path>.+)$"
)
_EDITABLE = re.compile(r"^(?:-e|--editable)[ =]+")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2")
#: Hashes and other options of a single requirement follow it after a space.
_OWN_OPTIONS = re.compile(r"\s+--[a-z]")
#: Options of a whole file that say where packages come from, and in which form.
_SOURCES = (
    *("-i", "--index-url", "--extra-index-url", "--no-index", "-f", "--find-links", "--pre"),
    *("--trusted-host", "--no-binary", "--only-binary", "--prefer-binary"),
)


@dataclass(frozen=True)
class Declarations:
    """The dependencies that one tree declares.

    Its packages by folder and its requirements files by name (posix, from the tree), the
    constraints in its constraints.txt, and a digest of each file that declares something.
    """

    tree: Path
    projects: Mapping[str, PackageFolder]
    requirements: Mapping[str, RequirementsFile]
    limits: list[str]
    files: Mapping[str, str]

    @property
    def names(self) -> set[str]:
        """The canonical names of its packages, as far as their files state them."""
        return {project.name for project in self.projects.values() if project.name}

    def changed(self, other: Declarations) -> list[str]:
        """Return the names of the files in which another tree's declarations differ."""
        names = {*self.files, *other.files}
        return sorted(name for name in names if self.files.get(name) != other.files.get(name))

    def to_build(self, before: Declarations) -> list[str]:
        """Return the changed folders (posix) whose dependencies only a build backend knows."""
        changed = {Path(name) for name in before.changed(self)}
        return [
            folder
            for folder, project in self.projects.items()
            if project.needs_backend and changed & {Path(folder, name) for name in _BUILT_FROM}
        ]


@dataclass(frozen=True)
class RequirementsFile:
    """The content of a requirements file, and of those that it includes.

    Its requirements, the constraints of the constraints files that it names, its options
    about indexes and folders of packages, and the paths of itself and the others.
    """

    requirements: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class PackageFolder:
    """A folder with a package, and the content of its pyproject.toml; empty without one."""

    folder: Path
    data: Mapping[str, Any]

    @property
    def name(self) -> str | None:
        """The canonical name, if the file states it."""
        name = _table(self.data, "project").get("name")
        return canonicalize_name(name) if isinstance(name, str) else None

    @property
    def is_package(self) -> bool:
        """Whether the folder declares the dependencies of a package, in any form."""
        if "project" in self.data or "build-system" in self.data:
            return True
        setup = self.folder / "setup.cfg"
        # Many contain only settings of linters.
        described = setup.is_file() and "[options" in _read_text(setup)
        return described or (self.folder / "setup.py").is_file()

    @property
    def needs_backend(self) -> bool:
        """Whether only the project's build backend, or uv, knows its dependencies."""
        if not self.is_package:
            return False
        dynamic = {*_strings(_table(self.data, "project").get("dynamic"))}
        return (
            "project" not in self.data
            or not dynamic.isdisjoint(("dependencies", "optional-dependencies"))
            or "sources" in _table(self.data, "tool", "uv")
        )

    @property
    def is_poetrys(self) -> bool:
        """Whether the dependencies are written for Poetry, and no build backend is named."""
        return not self.is_package and "poetry" in _table(self.data, "tool")

    @property
    def dependencies(self) -> list[str]:
        """The requirements that are always installed."""
        return _strings(_table(self.data, "project").get("dependencies"))

    @property
    def extras(self) -> dict[str, list[str]]:
        """The requirements of each extra, by canonical name."""
        return _lists(_table(self.data, "project", "optional-dependencies"))

    @property
    def groups(self) -> dict[str, list[str]]:
        """The requirements of each dependency group (PEP 735), without groups that it includes."""
        return _lists(_table(self.data, "dependency-groups"))


def read_declarations(tree: Path, also: Iterable[str] = ()) -> Declarations:
    """Return the declarations of the project folder ``tree``.

    ``also`` names folders of further packages (posix, from the tree): siblings in a
    repository of several packages.

    Raises:
        InstallError: a file cannot be read or parsed; names file and line.
    """
    projects = {folder: _read_project(tree / folder) for folder in dict.fromkeys((".", *also))}
    names = (*_BUILT_FROM, UV_LOCK, *_OTHER_TOOLS)
    files = {tree / folder / name for folder in projects for name in names}
    lists = _found(tree, "*requirements*.txt", "requirements/*.txt")
    contents = {
        path: _read_requirements(path) for path in (*lists, *_found(tree, "*constraints*.txt"))
    }
    files |= {file for content in contents.values() for file in content.files}
    requirements = {_name_of(path, tree): contents[path] for path in lists}
    limits = contents.get(tree / "constraints.txt", RequirementsFile()).requirements
    present = (path for path in files if path.is_file())
    digests = {_name_of(path, tree): hashlib.sha256(_read(path)).hexdigest() for path in present}
    return Declarations(tree, projects, requirements, limits, digests)


def check_installable(ours: Declarations, theirs: Declarations) -> None:
    """Check that an installer can read the other tree's requirements.

    Raises:
        InstallError: the files that differ belong to another tool.
    """
    changed = ours.changed(theirs)
    for file in changed:
        name = Path(file).name
        beside = name in _CONDA and (theirs.requirements or theirs.projects["."].is_package)
        if name in _OTHER_TOOLS and not beside:
            raise InstallError(
                f"{file} differs between the two commits, and neither uv nor pip installs from "
                f"it; {INSTALL_ADVICE}"
            )
    for folder, project in theirs.projects.items():
        if project.is_poetrys and Path(folder, "pyproject.toml").as_posix() in changed:
            raise InstallError(
                f"{project.folder / 'pyproject.toml'} declares dependencies for Poetry and names "
                f"no build backend, so neither uv nor pip can install them; {INSTALL_ADVICE}"
            )


def requirement_in(line: str) -> str | None:
    """Return the requirement in a line of a requirements file, without hashes and the like.

    None for an option, and for a folder, which contains one of the repository's own packages.
    """
    text = _OWN_OPTIONS.split(_EDITABLE.sub("", line), maxsplit=1)[0].strip()
    remote = "://" in text and not text.startswith("file:")
    is_one = not text.startswith("-") and (remote or text.endswith(_ARCHIVES) or parse(text))
    return text if is_one else None


def parse(line: str) -> Requirement | None:
    """Read a PEP 508 requirement; None for anything else."""
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def repository_around(tree: Path) -> Path:
    """Return the top of the work tree that holds ``tree``, or ``tree`` itself outside of one."""
    for folder in (tree, *tree.parents):
        if (folder / ".git").exists():
            return folder
    return tree


def name_of_project(folder: Path) -> str | None:
    """Return the canonical name of a folder's package, if its pyproject.toml states it."""
    try:
        return _read_project(folder).name
    except InstallError:
        return None


def _read_project(folder: Path) -> PackageFolder:
    path = folder / "pyproject.toml"
    if not path.is_file():
        return PackageFolder(folder, {})
    try:
        return PackageFolder(folder, tomllib.loads(_read_text(path)))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+)", str(error))
        problem = re.sub(r"\s*\(at [^)]*\)$", "", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise InstallError(f"{where}: not TOML: {problem}; correct the file") from None


def _read_requirements(path: Path) -> RequirementsFile:
    """Read a requirements file and the files that it includes; constraints files last."""
    content = RequirementsFile()
    todo = [(path, False)]
    while todo:
        named, limits = todo.pop(0)
        file = Path(os.path.normpath(named))
        if file in content.files or not file.is_file():
            continue
        content.files.append(file)
        # Lines that end in a backslash are continued.
        joined = re.sub(r"\\\r?\n", " ", _read_text(file))
        for line in (_COMMENT.sub("", raw).strip() for raw in joined.splitlines()):
            if included := _INCLUDED.match(line):
                other = file.parent / included["path"].strip("'\"")
                if limits or included["option"] in ("-c", "--constraint"):
                    todo.append((other, True))
                else:
                    todo.insert(0, (other, False))
            elif requirement := requirement_in(line):
                (content.limits if limits else content.requirements).append(requirement)
            elif not limits and (option := _source_in(line, file.parent)):
                content.options.append(option)
    return content


def _source_in(line: str, folder: Path) -> str | None:
    """Return a line that says where packages come from, with the file URL of a local folder."""
    name, _, value = line.replace("=", " ", 1).partition(" ")
    if name not in _SOURCES:
        return None
    local = folder / value.strip()
    if name in ("-f", "--find-links") and local.is_dir():
        return f"{name} {local.resolve().as_uri()}"
    return line


def _read_text(path: Path) -> str:
    """Return the content of a text file, UTF-16 (from a PowerShell redirection) included."""
    content = _read(path)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InstallError(f"{path}: cannot be read: {reason}; make it readable") from None


def _found(tree: Path, *patterns: str) -> list[Path]:
    paths = {path for pattern in patterns for path in tree.glob(pattern)}
    return sorted(path for path in paths if path.is_file())


def _name_of(path: Path, tree: Path) -> str:
    """Return a file's path from the tree; the full path outside of the repository."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100
    if absolute.is_relative_to(repository_around(tree)):
        return Path(os.path.relpath(absolute, tree)).as_posix()
    return str(absolute)


def _table(data: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        value = data.get(name)
        data = value if isinstance(value, Mapping) else {}
    return data


def _lists(table: Mapping[str, Any]) -> dict[str, list[str]]:
    return {canonicalize_name(name): _strings(lines) for name, lines in table.items()}


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
