"""The files in which a tree declares what it needs, and where two trees differ in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.packages.errors import BY_HAND, InstallError
from pytest_llmperf.packages.project import Project, read_project
from pytest_llmperf.packages.requirement_files import logical_lines, with_included

CONSTRAINTS = "constraints.txt"
UV_LOCK = "uv.lock"
_REQUIREMENTS = ("*requirements*.txt", "requirements/*.txt")
#: Files that uv and pip do not install from.
_CONDA = ("environment.yml", "environment.yaml")
_OTHER_TOOLS = ("Pipfile", "Pipfile.lock", "poetry.lock", "pdm.lock", "pylock.toml", *_CONDA)


@dataclass(frozen=True)
class Declarations:
    """What one tree declares.

    Attributes:
        tree: its project folder.
        projects: its packages, by folder (posix, from the tree).
        requirements: its requirements files, by name (posix, from the tree).
        texts: each file that declares something -> a text that is equal where it means
            the same.
    """

    tree: Path
    projects: Mapping[str, Project]
    requirements: Mapping[str, Path]
    texts: Mapping[str, str]

    @property
    def names(self) -> set[str]:
        """The canonical names of its packages, as far as their files state them."""
        return {project.name for project in self.projects.values() if project.name}

    def changed(self, other: Declarations) -> list[str]:
        """Return the names of the files in which another tree's declarations differ."""
        names = {*self.texts, *other.texts}
        return sorted(name for name in names if self.texts.get(name) != other.texts.get(name))


def declared(tree: Path, also: Iterable[str] = ()) -> Declarations:
    """Find what the project folder ``tree`` declares.

    Args:
        tree: the folder.
        also: folders of further packages (posix, from the tree): siblings in a repository
            of several packages.

    Raises:
        InstallError: a file cannot be read or parsed; names file and line.
    """
    texts: dict[str, str] = {}
    projects = {}
    for folder in dict.fromkeys((".", *also)):
        project = projects[folder] = read_project(tree / folder)
        for name in ("setup.py", "setup.cfg", UV_LOCK, *_OTHER_TOOLS):
            if (path := tree / folder / name).is_file():
                texts[_named(path, tree)] = hashlib.sha256(path.read_bytes()).hexdigest()
        if project.data:
            texts[_named(tree / folder / "pyproject.toml", tree)] = project.text
    found = {path for pattern in _REQUIREMENTS for path in tree.glob(pattern)}
    requirements = {_named(path, tree): path for path in sorted(found) if path.is_file()}
    for path in (*requirements.values(), *sorted(tree.glob("*constraints*.txt"))):
        for file in with_included(path, constraints=True):
            texts[_named(file, tree)] = "\n".join(sorted(logical_lines(file)))
    return Declarations(tree, projects, requirements, {k: v for k, v in texts.items() if v})


def check_installable(ours: Declarations, theirs: Declarations) -> None:
    """Check that an installer can tell what the other tree needs.

    Raises:
        InstallError: what differs is for another tool to read.
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
        if project.is_poetry_only and (before is None or before.text != project.text):
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


def _named(path: Path, tree: Path) -> str:
    """Name a file by its path from the tree; one that lies outside of the repository, in full."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100
    if absolute.is_relative_to(repository_around(tree)):
        return Path(os.path.relpath(absolute, tree)).as_posix()
    return str(absolute)
