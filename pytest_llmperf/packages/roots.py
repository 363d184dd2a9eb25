"""Finds the import folders of a tree, and the modules in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Names in a project's folder that are never imported from elsewhere.
_NOT_IMPORTED = {"setup", "conftest", "noxfile", "tests", "test", "docs"}


def import_roots(project: Path, tree: Path) -> tuple[str, ...]:
    """Return the folders of ``tree`` to put in front of ``sys.path``, in order.

    First the folders that correspond to this environment's editable installations
    of the project; then the tree's ``src``, where the project is installed in another
    way. In a repository of several packages, those beside the project count
    too, so that a folder may lie outside of ``tree`` but in its work tree.

    Args:
        project: the folder whose environment this interpreter's is.
        tree: the same folder of another work tree, or ``project`` itself.

    Returns:
        Existing folders, absolute, each once.
    """
    # These imports take 40 ms, which a session without another tree should not pay.
    from pytest_llmperf.packages.declarations import name_of_project, repository_around
    from pytest_llmperf.packages.installed import installed_here, module_folders, site_folders

    project, tree = project.resolve(), tree.resolve()
    area = repository_around(project)
    roots: dict[str, None] = {}
    for folder in module_folders(site_folders()):
        real = Path(os.path.realpath(folder))
        if real.is_relative_to(area):
            counterpart = Path(os.path.normpath(tree / os.path.relpath(real, project)))
            if counterpart.is_dir():
                roots.setdefault(str(counterpart))
    installed = installed_here()
    of_repository = installed.below(area)
    for package in of_repository:
        home = Path(os.path.normpath(tree / os.path.relpath(str(package.source), project)))
        if not any(Path(root).is_relative_to(home) for root in roots):
            # The package lies elsewhere in the other tree: src was added or removed.
            for folder in (home / "src", home):
                if _holds_modules(folder):
                    roots.setdefault(str(folder))
                    break
    source = tree / "src"
    if _holds_modules(source) and (roots or of_repository or name_of_project(project) in installed):
        roots.setdefault(str(source))
    return tuple(roots)


def own_modules(tree: Path, roots: Sequence[str]) -> frozenset[str]:
    """Return the names of the top-level modules that ``tree`` and its roots provide.

    Packages with an ``__init__``, single modules and extension modules. Folders
    without ``__init__`` do not count (any folder would), nor do tests and names of
    the standard library, which takes precedence.
    """
    names: set[str] = set()
    for folder in {str(tree), *roots}:
        names |= set(_modules(Path(folder)))
    tests = {name for name in names if name.startswith("test_") or name.endswith("_test")}
    return frozenset(names - tests - _NOT_IMPORTED - sys.stdlib_module_names)


def _modules(folder: Path) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        name, dot, suffix = entry.name.partition(".")
        if not name.isidentifier():
            continue
        if not dot:
            if Path(entry.path, "__init__.py").is_file():
                yield name
        elif suffix == "py" or suffix.endswith(("so", "pyd")):
            yield name


def _holds_modules(folder: Path) -> bool:
    """Whether the folder contains modules or packages, namespace packages included."""
    if any(_modules(folder)):
        return True
    try:
        return any(path.is_file() for path in folder.glob("*/*.py"))
    except OSError:
        return False
