"""Finds this environment's installations of a repository, and the folders of their modules."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from pytest_llmperf.packages.installed import Distribution, Installed

#: Longer modules are no installer's finder.
_MAX_BYTES = 4 << 20


def from_repository(area: Path, installed: Installed, folders: list[Path]) -> list[Distribution]:
    """Return the distributions that were installed from a folder below ``area``.

    Args:
        area: a folder, resolved.
        installed: this environment's distributions.
        folders: its folders of installed packages.
    """
    found = {name: each for name, each in installed.items() if each.is_from(area)}
    for each in _egg_links(folders):
        if each.folder.resolve().is_relative_to(area):
            found.setdefault(each.name, each)
    return list(found.values())


def module_folders(folders: list[Path]) -> list[Path]:
    """Return the folders outside of ``folders`` that their .pth files and finders import from.

    In the order in which they come on the path; they may not exist.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        for path in sorted(_files(folder, "*.pth")):
            for line in path_lines(path):
                found.setdefault((folder / line).absolute())
        # setuptools, hatchling and scikit-build-core write modules that redirect imports.
        for pattern in ("__editable__*_finder.py", "_editable_impl_*.py", "_*_editable.py"):
            for path in sorted(_files(folder, pattern)):
                found |= dict.fromkeys(_of_finder(_text(path)))
    return list(found)


def path_lines(path: Path) -> list[str]:
    """Return the lines of a .pth file that are paths, relative to its folder or absolute."""
    lines = _text(path).splitlines()
    return [
        line.strip()
        for line in lines
        if line.strip() and not line.startswith(("import ", "import\t", "#"))
    ]


def _of_finder(text: str) -> Iterator[Path]:
    """Yield the folders of the modules that a generated finder lists.

    It pairs names with paths, in tables or in calls: ``{'pkg': '/home/me/src/pkg'}``.
    """
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return
    pairs: list[tuple[ast.AST | None, ast.AST]] = []
    for node in nodes:
        if isinstance(node, ast.Dict):
            pairs += zip(node.keys, node.values, strict=True)
        elif isinstance(node, ast.Call) and len(node.args) == 2:
            pairs.append((node.args[0], node.args[1]))
    for key, value in pairs:
        for module, where in itertools.product(_strings(key), _strings(value)):
            if root := _root_of(module, Path(where)):
                yield root


def _strings(node: ast.AST | None) -> list[str]:
    """Return a constant string, or those of a list."""
    nodes = node.elts if isinstance(node, ast.List) else [node]
    values = (each.value for each in nodes if isinstance(each, ast.Constant))
    return [value for value in values if isinstance(value, str)]


def _root_of(module: str, path: Path) -> Path | None:
    """Return the folder that must be on the path for ``module`` to be found at ``path``."""
    parts = tuple(module.split("."))
    path = path.parent if path.stem == "__init__" else path
    found = (*path.parts[-len(parts) : -1], path.name.partition(".")[0])
    return path.parents[len(parts) - 1] if path.is_absolute() and found == parts else None


def _egg_links(folders: list[Path]) -> Iterator[Distribution]:
    """Yield installations by ``setup.py develop``: links to a folder with an egg-info."""
    for folder in folders:
        for link in _files(folder, "*.egg-link"):
            lines = _text(link).splitlines()
            source = (folder / lines[0].strip()) if lines else folder
            for raw in metadata.distributions(path=[str(source)]):
                name = canonicalize_name(raw.metadata["Name"] or "")
                if name == canonicalize_name(link.stem):
                    yield Distribution(name, raw.version, source, raw)


def _files(folder: Path, pattern: str) -> list[Path]:
    try:
        return [path for path in folder.glob(pattern) if path.is_file()]
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
