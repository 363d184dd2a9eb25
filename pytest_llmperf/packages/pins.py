"""Which versions a tree's lock files and constraints files allow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.errors import DeclarationError
from pytest_llmperf.packages.pyproject import read_toml
from pytest_llmperf.packages.requirement_file import read_text

#: What says that a package is not of an index: then its version pins nothing there.
_ELSEWHERE = {"git", "path", "url", "editable", "virtual", "directory", "vcs", "archive"}


def of_lines(lines: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Return name -> specifier of the constraints that apply to this interpreter."""
    found: dict[str, list[str]] = {}
    for line in lines:
        requirement = specs.parse(line)
        if requirement and not requirement.url and specs.applies(requirement):
            name = canonicalize_name(requirement.name)
            found.setdefault(name, []).extend(sorted(map(str, requirement.specifier)))
    return {name: ",".join(parts) for name, parts in found.items() if parts}


def of_lock(path: Path) -> dict[str, str]:
    """Return name -> ``==version`` of a lock file, for this interpreter.

    A package that the file holds in several versions that could apply is left out.

    Raises:
        DeclarationError: it cannot be read or parsed.
    """
    versions: dict[str, set[str]] = {}
    packages = _pipfile_lock(path) if path.name == "Pipfile.lock" else _toml_lock(path)
    for name, version in packages:
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return {name: f"=={found.pop()}" for name, found in versions.items() if len(found) == 1}


def _toml_lock(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the packages of a uv.lock, poetry.lock, pdm.lock or pylock.toml."""
    data = read_toml(path)
    for package in data.get("package") or data.get("packages") or ():
        if not isinstance(package, Mapping) or not {"name", "version"} <= package.keys():
            continue
        source = package.get("source")
        places = source if isinstance(source, Mapping) else {}
        # Poetry names the kind of place ("legacy" is an index); others have a key for each.
        if "type" in places:
            elsewhere = places["type"] != "legacy"
        else:
            elsewhere = not _ELSEWHERE.isdisjoint({*places, *package})
        if elsewhere:
            continue
        if _applies(package):
            yield str(package["name"]), str(package["version"])


def _applies(package: Mapping[str, Any]) -> bool:
    markers = package.get("resolution-markers")  # uv's: any of them
    if isinstance(markers, list) and markers:
        return any(_holds(str(marker)) for marker in markers)
    marker = package.get("markers") or package.get("marker")
    return _holds(marker) if isinstance(marker, str) else True


def _holds(marker: str) -> bool:
    try:
        return Marker(marker).evaluate({"extra": ""})
    except InvalidMarker:
        return True


def _pipfile_lock(path: Path) -> Iterator[tuple[str, str]]:
    try:
        data = json.loads(read_text(path))
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise DeclarationError(f"{path}:{line}: not JSON: {error}; correct the file") from None
    for section in ("default", "develop"):
        packages = data.get(section) if isinstance(data, Mapping) else None
        for name, entry in packages.items() if isinstance(packages, Mapping) else ():
            version = entry.get("version") if isinstance(entry, Mapping) else None
            if isinstance(version, str) and _applies(entry):
                yield name, version.removeprefix("==")
