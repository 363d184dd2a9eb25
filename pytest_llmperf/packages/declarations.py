"""Finds the files in which a tree declares its dependencies, and compares two trees."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.project import PackageFolder, read_project
from pytest_llmperf.packages.requirement_files import included_files

CONSTRAINTS = "constraints.txt"
UV_LOCK = "uv.lock"
_REQUIREMENTS = ("*requirements*.txt", "requirements/*.txt")
#: Files that uv and pip do not install from.
_CONDA = ("environment.yml", "environment.yaml")
_OTHER_TOOLS = ("Pipfile", "Pipfile.lock", "poetry.lock", "pdm.lock", "pylock.toml", *_CONDA)
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", UV_LOCK, *_OTHER_TOOLS)


@dataclass(frozen=True)
class Declarations:
    """The dependencies that one tree declares.

    Attributes:
        tree: its project folder.
        projects: its packages, by folder (posix, from the tree).
        requirements: its requirements files, by name (posix, from the tree).
        files: each file that declares something -> a digest of its content.
    """

    tree: Path
    projects: Mapping[str, PackageFolder]
    requirements: Mapping[str, Path]
    files: Mapping[str, str]

    @property
    def names(self) -> set[str]:
        """The canonical names of its packages, as far as their files state them."""
        return {project.name for project in self.projects.values() if project.name}

    def changed(self, other: Declarations) -> list[str]:
        """Return the names of the files in which another tree's declarations differ."""
        names = {*self.files, *other.files}
        return sorted(name for name in names if self.files.get(name) != other.files.get(name))


def declared(tree: Path, also: Iterable[str] = ()) -> Declarations:
    """Return the declarations of the project folder ``tree``.

    Args:
        tree: the folder.
        also: folders of further packages (posix, from the tree): siblings in a repository
            of several packages.

    Raises:
        InstallError: a file cannot be read or parsed; names file and line.
    """
    projects = {folder: read_project(tree / folder) for folder in dict.fromkeys((".", *also))}
    requirements = _found(tree, *_REQUIREMENTS)
    files = {tree / folder / name for folder in projects for name in _PROJECT_FILES}
    for path in (*requirements, *_found(tree, "*constraints*.txt")):
        files |= {*included_files(path, constraints=True)}
    return Declarations(
        tree,
        projects,
        {_named(path, tree): path for path in requirements},
        {
            _named(path, tree): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.is_file()
        },
    )


def check_installable(ours: Declarations, theirs: Declarations) -> None:
    """Check that an installer can read the other tree's requirements.

    Raises:
        InstallError: the files that differ belong to another tool.
    """
    for file in ours.changed(theirs):
        name = file.rpartition("/")[2]
        beside = name in _CONDA and (theirs.requirements or theirs.projects["."].is_package)
        if name in _OTHER_TOOLS and not beside:
            raise InstallError(
                f"{file} is not the same in both commits, and neither uv nor pip installs from "
                f"it; {BY_HAND}"
            )
    for folder, project in theirs.projects.items():
        before = ours.projects.get(folder)
        if project.poetry and (before is None or before.poetry != project.poetry):
            raise InstallError(
                f"{project.folder / 'pyproject.toml'} declares dependencies for Poetry and names "
                f"no build backend, so neither uv nor pip can install them; {BY_HAND}"
            )


def repository_around(tree: Path) -> Path:
    """Return the top of the work tree that holds ``tree``, or ``tree`` itself outside of one."""
    for folder in (tree, *tree.parents):
        if (folder / ".git").exists():
            return folder
    return tree


def _found(tree: Path, *patterns: str) -> list[Path]:
    found = {path for pattern in patterns for path in tree.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def _named(path: Path, tree: Path) -> str:
    """Return a file's path from the tree; the full path outside of the repository."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100
    if absolute.is_relative_to(repository_around(tree)):
        return Path(os.path.relpath(absolute, tree)).as_posix()
    return str(absolute)
