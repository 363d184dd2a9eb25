"""The standard tables of a pyproject.toml: dependencies, extras and dependency groups."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from pytest_llmperf.packages.errors import InstallError
from pytest_llmperf.packages.requirement_files import read_text

# Imported by name, so that a type checker for a single Python version accepts it.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

#: Tables of [tool] that can change what is installed.
_TOOLS = ("uv", "poetry", "pdm", "setuptools", "hatch", "flit", "scikit-build")


@dataclass(frozen=True)
class PackageFolder:
    """A folder with a package, and the declarations in it.

    Attributes:
        folder: of the pyproject.toml, setup.py or setup.cfg.
        data: the content of its pyproject.toml; empty without one.
    """

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
        return (self.folder / "setup.py").is_file() or _is_package(self.folder / "setup.cfg")

    @property
    def needs_backend(self) -> bool:
        """Whether only the project's build backend, or uv, knows its dependencies."""
        if not self.is_package:
            return False
        dynamic = _table(self.data, "project").get("dynamic")
        names = set(dynamic) if isinstance(dynamic, list) else set()
        sources = "sources" in _table(self.data, "tool", "uv")
        moved = names & {"dependencies", "optional-dependencies"}
        return "project" not in self.data or bool(moved) or sources

    @property
    def dependencies(self) -> list[str]:
        """The requirements that are always installed."""
        return _strings(_table(self.data, "project").get("dependencies"))

    @property
    def extras(self) -> dict[str, list[str]]:
        """The requirements of each extra, by canonical name."""
        table = _table(self.data, "project", "optional-dependencies")
        return {canonicalize_name(name): _strings(lines) for name, lines in table.items()}

    @property
    def groups(self) -> dict[str, list[str]]:
        """The requirements of each dependency group (PEP 735), without groups that it includes."""
        table = _table(self.data, "dependency-groups")
        return {canonicalize_name(name): _strings(lines) for name, lines in table.items()}

    @property
    def built_from(self) -> dict[str, Any]:
        """The declarations that a build backend reads."""
        tools = _table(self.data, "tool")
        kept = {key: self.data.get(key) for key in ("project", "build-system")}
        kept |= {key: tools[key] for key in _TOOLS if key in tools}
        files = (self.folder / name for name in ("setup.py", "setup.cfg"))
        return kept | {path.name: read_text(path) for path in files if path.is_file()}

    @property
    def poetry(self) -> Mapping[str, Any]:
        """Dependencies that are written for Poetry, where no build backend is named."""
        return {} if self.is_package else _table(self.data, "tool", "poetry")


def read_project(folder: Path) -> PackageFolder:
    """Read the package declarations in ``folder``.

    Raises:
        InstallError: its pyproject.toml cannot be read, or is no TOML; names file and line.
    """
    path = folder / "pyproject.toml"
    if not path.is_file():
        return PackageFolder(folder, {})
    try:
        return PackageFolder(folder, tomllib.loads(read_text(path)))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+)", str(error))
        what = re.sub(r"\s*\(at [^)]*\)$", "", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise InstallError(f"{where}: not TOML: {what}; correct the file") from None


def _table(data: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = data.get(name)
        data = found if isinstance(found, Mapping) else {}
    return data


def _strings(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _is_package(setup_cfg: Path) -> bool:
    """Whether a setup.cfg describes a package; many contain only settings of linters."""
    return setup_cfg.is_file() and "[options" in read_text(setup_cfg)
