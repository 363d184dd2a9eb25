"""Reads the dependencies that a pyproject.toml declares: the standard's, uv's, Poetry's, PDM's."""

from __future__ import annotations

import importlib
import json
import posixpath
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from pytest_llmperf.packages import specs
from pytest_llmperf.packages.errors import DeclarationError
from pytest_llmperf.packages.lists import Key, Part
from pytest_llmperf.packages.requirement_file import read_text
from pytest_llmperf.packages.tables import requirements_of, specifier_of

if TYPE_CHECKING:
    from pathlib import Path

#: The standard library's from Python 3.11 on; before, pytest brings its ancestor.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


_SOURCES = ("git", "rev", "tag", "branch", "subdirectory", "url")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        DeclarationError: it cannot be read or is not TOML; names file and line.
    """
    try:
        data: dict[str, Any] = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        text = str(error)
        line = re.search(r"\(at line (\d+)", text)
        what = re.sub(r"\s*\(at [^)]*\)$", "", text)
        where = f"{path}:{line[1]}" if line else str(path)
        raise DeclarationError(f"{where}: not TOML: {what}; correct the file") from None
    return data


def read_pyproject(path: Path, file: str) -> Part:
    """Read what the file declares.

    Args:
        path: the file.
        file: its posix path from the tree.

    Raises:
        DeclarationError: it cannot be read or is not TOML.
    """
    return _Reader(read_toml(path), file).read()


class _Reader:
    """Walks one parsed file; what has an unexpected type is passed over, as not ours to judge."""

    def __init__(self, data: dict[str, Any], file: str) -> None:
        self._data = data
        self._file = file
        self._folder = posixpath.dirname(file)
        self._part = Part()

    def read(self) -> Part:
        self._build()
        self._project()
        self._groups()
        self._uv()
        self._poetry()
        self._pdm()
        self._hatch()
        return self._part

    def _key(self, kind: Any, name: str = "") -> Key:
        return Key(self._file, kind, name)

    def _table(self, *path: str) -> dict[str, Any]:
        value: Any = self._data
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return dict(value) if isinstance(value, Mapping) else {}

    def _lines(self, value: Any) -> list[str]:
        """Spell a list of requirements, each from where tool.uv.sources says it comes."""
        sources = self._table("tool", "uv", "sources")
        lines = []
        for text in (specs.canonical(item) for item in _list(value) if isinstance(item, str)):
            source = sources.get(specs.name_of(text)) or sources.get(_written_name(text))
            lines.append(_from_source(text, source, self._folder))
        return lines

    def _build(self) -> None:
        if requires := self._table("build-system").get("requires"):
            self._part.add(self._key("build"), self._lines(requires))

    def _project(self) -> None:
        project = self._table("project")
        if isinstance(name := project.get("name"), str):
            self._part.names.add(canonicalize_name(name))
        if isinstance(python := project.get("requires-python"), str):
            self._part.add(self._key("python"), ["".join(python.split())])
        if "dependencies" in project:
            self._part.add(self._key("project"), self._lines(project["dependencies"]))
        for extra, lines in self._table("project", "optional-dependencies").items():
            self._part.add(self._key("extra", canonicalize_name(extra)), self._lines(lines))
        if "dependencies" in _list(project.get("dynamic")):
            self._dynamic()
        for extra, value in self._table(
            "tool", "setuptools", "dynamic", "optional-dependencies"
        ).items():
            key = self._key("extra", canonicalize_name(extra))
            self._part.add(key, [], self._files(value))

    def _dynamic(self) -> None:
        """Dependencies that the build finds: in files, or nobody knows where."""
        files = self._files(self._table("tool", "setuptools", "dynamic").get("dependencies"))
        hook = self._table("tool", "hatch", "metadata", "hooks", "requirements_txt")
        files += self._files({"file": hook.get("files")})
        if files:
            self._part.add(self._key("project", "(dynamic)"), [], files)
        else:
            told = [self._table("build-system"), self._table("tool", "hatch", "metadata")]
            self._part.unreadable[f"{self._file} dynamic dependencies"] = _text(told)

    def _files(self, value: Any) -> list[Key]:
        named = value.get("file") if isinstance(value, Mapping) else None
        names = [named] if isinstance(named, str) else _list(named)
        return [
            Key(posixpath.normpath(posixpath.join(self._folder, str(name))), "file")
            for name in names
        ]

    def _groups(self) -> None:
        for group, value in self._table("dependency-groups").items():
            items = _list(value)
            includes = [
                self._key("group", canonicalize_name(str(item["include-group"])))
                for item in items
                if isinstance(item, Mapping) and "include-group" in item
            ]
            key = self._key("group", canonicalize_name(group))
            self._part.add(key, self._lines(items), includes)

    def _uv(self) -> None:
        uv = self._table("tool", "uv")
        if "dev-dependencies" in uv:
            lines = self._lines(uv.pop("dev-dependencies"))
            self._part.add(self._key("group", "dev (tool.uv)"), lines)
        limits = self._lines(uv.pop("constraint-dependencies", None))
        limits += self._lines(uv.pop("override-dependencies", None))
        if limits:
            self._part.add(self._key("constraints", "(tool.uv)"), limits)
        if uv:
            self._part.add(self._key("settings", "tool.uv"), [_text(uv)])

    def _poetry(self) -> None:
        poetry = self._table("tool", "poetry")
        if isinstance(name := poetry.get("name"), str):
            self._part.names.add(canonicalize_name(name))
        main = self._table("tool", "poetry", "dependencies")
        if isinstance(python := main.pop("python", None), str):
            self._part.add(self._key("python", "(Poetry)"), [specifier_of(python) or python])
        optional = {n for n, v in main.items() if isinstance(v, Mapping) and v.get("optional")}
        if main:
            always = [line for n, v in main.items() if n not in optional for line in self._of(n, v)]
            self._part.add(self._key("project", "(Poetry)"), always)
        for extra, names in self._table("tool", "poetry", "extras").items():
            named = map(str, _list(names))
            lines = [line for n in named for line in self._of(n, main.get(n, "*"))]
            self._part.add(self._key("extra", canonicalize_name(extra)), lines)
        groups: dict[str, tuple[str, ...]] = {
            name: ("group", name, "dependencies") for name in self._table("tool", "poetry", "group")
        }
        if "dev-dependencies" in poetry:
            groups["dev (Poetry)"] = ("dev-dependencies",)
        for group, path in groups.items():
            table = self._table("tool", "poetry", *path)
            lines = [line for n, v in table.items() for line in self._of(n, v)]
            self._part.add(self._key("group", group), lines)
        if "source" in poetry:
            self._part.add(self._key("settings", "tool.poetry.source"), [_text(poetry["source"])])

    def _of(self, name: str, value: Any) -> list[str]:
        return requirements_of(name, value, self._folder)

    def _pdm(self) -> None:
        for group, lines in self._table("tool", "pdm", "dev-dependencies").items():
            self._part.add(self._key("group", f"{group} (PDM)"), self._lines(lines))
        pdm = self._table("tool", "pdm")
        settings = {key: pdm[key] for key in ("source", "resolution", "overrides") if key in pdm}
        if settings:
            self._part.add(self._key("settings", "tool.pdm"), [_text(settings)])

    def _hatch(self) -> None:
        for name, env in self._table("tool", "hatch", "envs").items():
            if isinstance(env, Mapping):
                lines = self._lines(env.get("dependencies"))
                lines += self._lines(env.get("extra-dependencies"))
                if lines:
                    self._part.add(self._key("group", f"{name} (Hatch)"), lines)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _written_name(text: str) -> str:
    """Return the name with underscores for dashes, which a table's key may be written with."""
    return specs.name_of(text).replace("-", "_")


def _from_source(text: str, source: Any, folder: str) -> str:
    """Spell a requirement that uv takes from elsewhere than an index."""
    requirement = specs.parse(text)
    if requirement is None or not isinstance(source, Mapping) or requirement.url:
        return text
    value = {key: source[key] for key in _SOURCES if key in source}
    if "path" in source:
        value = {"path": source["path"]}
    if not value:
        return text
    value["extras"] = sorted(requirement.extras)
    if requirement.marker:
        value["markers"] = str(requirement.marker)
    return requirements_of(requirement.name, value, folder)[0]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
