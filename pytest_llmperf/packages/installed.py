"""The distributions installed in an environment, and the folders that it imports from."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ENGINE = "llama-cpp-python"
PLUGIN = "pytest-llmperf"
#: Not copied to other environments: installers run outside, and the session adds the plugin.
NOT_COPIED = frozenset({"pip", "uv", PLUGIN})


@dataclass(frozen=True)
class Distribution:
    """One installed distribution: its canonical name, its version, and its site-packages folder."""

    name: str
    version: str
    folder: Path
    raw: metadata.Distribution

    @cached_property
    def _requires(self) -> list[str]:
        # The standard library reads the whole metadata again at each access.
        return list(self.raw.requires or ())

    @cached_property
    def source(self) -> Path | None:
        """The folder on this machine that it was installed from, resolved (PEP 610); or None."""
        try:
            data = json.loads(self.raw.read_text("direct_url.json") or "{}")
        except ValueError:
            return None
        if not isinstance(data, dict) or "dir_info" not in data:
            return None
        address = urlsplit(str(data.get("url", "")))
        return Path(url2pathname(address.path)).resolve() if address.scheme == "file" else None

    def is_from(self, area: Path) -> bool:
        """Whether it was installed from a folder below ``area``, which is resolved."""
        return self.source is not None and self.source.is_relative_to(area)

    def requirements(self, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
        """Yield its requirements in this interpreter, including those of the extras."""
        for text in self._requires:
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in extras | {""}):
                yield requirement

    def extras(self) -> dict[str, list[str]]:
        """Return the additional requirements of each of its extras."""
        always = {str(need) for need in self.requirements()}
        names = map(canonicalize_name, self.raw.metadata.get_all("Provides-Extra") or ())
        return {
            name: [
                str(need).partition(";")[0]
                for need in self.requirements(frozenset({name}))
                if str(need) not in always
            ]
            for name in names
        }

    def record(self) -> str:
        """Return a digest of its list of files and their hashes, which changes with a rebuild."""
        text = self.raw.read_text("RECORD") or self.raw.read_text("METADATA") or ""
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


class Installed(dict[str, Distribution]):
    """Distributions by canonical name; the first on the path counts, as when importing."""

    def __init__(self, folders: Iterable[Path]) -> None:
        super().__init__()
        for folder in folders:
            for raw in metadata.distributions(path=[str(folder)]):
                try:
                    name, version = raw.metadata["Name"], raw.version
                except Exception:  # a broken left-over of an installer is not a distribution
                    continue
                if name and version:
                    key = canonicalize_name(name)
                    self.setdefault(key, Distribution(key, version, folder, raw))

    def below(self, area: Path) -> list[Distribution]:
        """Return those that were installed from a folder below ``area``, which is resolved."""
        return [package for package in self.values() if package.is_from(area)]

    def satisfies(self, requirement: Requirement) -> bool:
        """Whether a distribution meets a requirement, wherever it was installed from."""
        package = self.get(canonicalize_name(requirement.name))
        if package is None or not holds(package.version, str(requirement.specifier)):
            return False
        extras = frozenset(canonicalize_name(extra) for extra in requirement.extras)
        needed = package.requirements(extras) if extras else ()
        return all(canonicalize_name(need.name) in self for need in needed)


def holds(version: str, specifier: str) -> bool:
    """Whether a version matches a specifier; pre-releases count as versions."""
    try:
        return SpecifierSet(specifier).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return specifier in ("", f"=={version}", f"==={version}")


def site_folders() -> list[Path]:
    """Return this interpreter's folders of installed packages that are on its path, in order."""
    named = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        named.append(site.getusersitepackages())
    known = {os.path.realpath(folder) for folder in named}
    folders: dict[str, Path] = {}
    for folder in sys.path:
        real = os.path.realpath(folder)
        if real in known and Path(folder).is_dir():
            folders.setdefault(real, Path(folder))
    return list(folders.values())


def installed_here() -> Installed:
    """Return the distributions of this interpreter's environment, without PYTHONPATH."""
    return Installed(site_folders())


#: Longer modules are not finders that an installer wrote.
_MAX_BYTES = 4 << 20


def module_folders(folders: list[Path]) -> list[Path]:
    """Return the folders outside of ``folders`` that their .pth files and finders import from.

    They are in the order of the path, and may not exist.
    """
    imported: dict[Path, None] = {}
    for folder in folders:
        for path in sorted(_files(folder, "*.pth")):
            for line in path_lines(path):
                imported.setdefault((folder / line).absolute())
        # setuptools, hatchling and scikit-build-core write modules that redirect imports.
        for pattern in ("__editable__*_finder.py", "_editable_impl_*.py", "_*_editable.py"):
            for path in sorted(_files(folder, pattern)):
                imported |= dict.fromkeys(_finder_folders(_text(path)))
    return list(imported)


def path_lines(path: Path) -> list[str]:
    """Return the lines of a .pth file that are paths, relative to its folder or absolute."""
    lines = _text(path).splitlines()
    return [
        line.strip()
        for line in lines
        if line.strip() and not line.startswith(("import ", "import\t", "#"))
    ]


def _finder_folders(text: str) -> Iterator[Path]:
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
    """Return a constant string, or the constant strings in a list."""
    nodes = node.elts if isinstance(node, ast.List) else [node]
    values = (item.value for item in nodes if isinstance(item, ast.Constant))
    return [value for value in values if isinstance(value, str)]


def _root_of(module: str, path: Path) -> Path | None:
    """Return the folder that must be on the path for ``module`` to be found at ``path``."""
    parts = tuple(module.split("."))
    path = path.parent if path.stem == "__init__" else path
    tail = (*path.parts[-len(parts) : -1], path.name.partition(".")[0])
    return path.parents[len(parts) - 1] if path.is_absolute() and tail == parts else None


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
