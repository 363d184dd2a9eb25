"""Builds the configuration from its layers: file, then environment, then command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pytest_llmperf.config.errors import ConfigError, Problem
from pytest_llmperf.config.fields import Expected
from pytest_llmperf.config.project import ProjectFolders
from pytest_llmperf.config.schema import Config, LlmConfig
from pytest_llmperf.config.yaml_file import Document, KeyPath, read_document, read_value
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.metrics import load_installed_metrics
from pytest_llmperf.system_path import shown_path, system_path, typed_text
from pytest_llmperf.units import shown

_PREFIX = "LLMPERF_"
_SECTIONS = ("llm", "perf", "quality", "tune")
#: One underscore after the section where two are needed: easy to get wrong, silent if ignored.
_NEAR_MISS = re.compile(r"LLMPERF_(LLM|PERF|QUALITY|TUNE)_(?!_)(.+)", re.IGNORECASE)


@dataclass(frozen=True)
class LoadedConfig:
    """A valid configuration and where it came from.

    Attributes:
        config: the settings.
        path: the file read, or None when there was none.
        warnings: what is allowed but probably a mistake, one sentence each.
        provenance: dotted key -> the layer that set it; defaults are left out.
        base_dir: the folder that relative paths in the settings are relative to.
    """

    config: Config
    path: Path | None
    warnings: tuple[str, ...]
    provenance: dict[str, str]
    base_dir: Path

    @property
    def baselines_dir(self) -> Path:
        """The folder of the baselines."""
        return self.base_dir / system_path(self.config.perf.baselines).expanduser()


def load_config(
    path: Path | None,
    project: ProjectFolders | Path,
    environ: Mapping[str, str],
    overrides: Sequence[str] = (),
) -> LoadedConfig:
    """Return the configuration; without any layer, the defaults.

    Args:
        path: the file; None takes the project's ``config.yaml`` if there is one.
        project: where to look for it; a folder stands for itself alone.
        environ: names such as ``LLMPERF_LLM__N_BATCH`` are used.
        overrides: such as ``llm.n_batch=512``.

    Raises:
        ConfigError: naming every problem with its file and line or its layer.
    """
    project = ProjectFolders.at(project) if isinstance(project, Path) else project
    rootdir = project.root
    file = path if path is not None else project.config_file()
    layers = Layers()
    problems: list[Problem] = []
    if file is not None:
        if not file.exists():
            raise ConfigError([Problem(_shown(file, rootdir), f"no such file{_neighbour(file)}")])
        name = _shown(file, rootdir)
        layers.add_document(read_document(file, name), name)
    problems += layers.add_environment(environ)
    problems += layers.add_overrides(overrides)
    # Targets may name installed metrics, and every test's records contain them.
    unusable = load_installed_metrics()
    config, invalid = validated(layers)
    problems += invalid
    if problems:
        problems += _foreign_file(path, file, layers.tree, rootdir)
        raise ConfigError(problems)
    return LoadedConfig(
        config=config,
        path=file,
        warnings=(*_warnings(config.llm), *unusable),
        provenance=layers.provenance(),
        base_dir=rootdir if file is None else file.absolute().parent,
    )


def validated(layers: Layers) -> tuple[Config, list[Problem]]:
    """Return the configuration of the layers, and the problems; with any it is the defaults."""
    try:
        return Config.model_validate(layers.tree), []
    except ValidationError as error:
        problems = []
        for path, text in complaints(error):
            origin = layers.origin(path)
            key = "" if origin.names_key else ".".join(map(str, path))
            problems.append(Problem(origin.where, text, key, origin.order))
        return Config(), problems


@dataclass(frozen=True)
class SettingOrigin:
    """The layer that set a key.

    Attributes:
        where: as messages show it.
        order: (layer, line), for sorting.
        names_key: ``where`` already contains the key.
    """

    where: str
    order: tuple[int, int] = (0, 0)
    names_key: bool = False


class Layers:
    """The merged values so far (``tree``), later layers over earlier ones."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self._origins: dict[KeyPath, SettingOrigin] = {}
        self._file = "configuration"

    def add_document(self, document: Document, shown: str) -> None:
        """Add a file's values; a section with only comments counts as absent."""
        self._file = shown
        self.tree = {
            key: {} if value is None and key in _SECTIONS else value
            for key, value in document.value.items()
        }
        for path, line in document.lines.items():
            self._origins[path] = SettingOrigin(f"{shown}:{line}", (0, line))

    def add_environment(self, environ: Mapping[str, str]) -> list[Problem]:
        """Add ``LLMPERF_<SECTION>__<KEY>`` variables; return problems with their names."""
        problems: list[Problem] = []
        for position, name in enumerate(sorted(environ)):
            upper = name.upper()
            if not upper.startswith(_PREFIX):
                continue
            origin = SettingOrigin(f"environment {name}", (1, position), names_key=True)
            keys = upper.removeprefix(_PREFIX).lower().split("__")
            if len(keys) == 1:
                if miss := _NEAR_MISS.fullmatch(name):
                    meant = f"LLMPERF_{miss[1]}__{miss[2]}".upper()
                    text = f"two underscores follow the section; did you mean {meant}?"
                    problems.append(Problem(origin.where, text, order=origin.order))
                continue
            problems += self._assign_text(keys, environ[name], origin)
        return problems

    def add_overrides(self, overrides: Sequence[str]) -> list[Problem]:
        """Add ``section.key=value`` arguments; return problems with their form."""
        problems: list[Problem] = []
        for position, override in enumerate(overrides):
            dotted, equals, text = override.partition("=")
            dotted = dotted.strip()
            origin = SettingOrigin(f"--llmperf-set {dotted}", (2, position), names_key=True)
            if not equals:
                words = "expected section.key=value such as llm.n_batch=512"
                problems.append(Problem(origin.where, words, order=origin.order))
                continue
            problems += self._assign_text(dotted.split("."), text, origin)
        return problems

    def add_changes(self, changes: Mapping[str, Any]) -> None:
        """Add values, by dotted key, that are to be written into the file."""
        for position, (dotted, value) in enumerate(changes.items()):
            origin = SettingOrigin(f"new value of {dotted}", (2, position), names_key=True)
            self._assign(tuple(dotted.split(".")), value, origin)

    def _assign_text(self, keys: Sequence[str], text: str, origin: SettingOrigin) -> list[Problem]:
        if keys[0] not in _SECTIONS or len(keys) < 2 or not all(keys):
            words = "expected a key of the section llm, perf, quality or tune, such as llm.n_batch"
            return [Problem(origin.where, words, order=origin.order)]
        typed = typed_text(text)
        if typed is None:
            words = "the value is not UTF-8; type it as UTF-8, or set the key in the file"
            return [Problem(origin.where, words, order=origin.order)]
        try:
            value = read_value(typed, origin.where, origin.order)
        except ConfigError as error:
            return list(error.problems)
        self._assign(tuple(keys), value, origin)
        return []

    def _assign(self, path: tuple[str, ...], value: Any, origin: SettingOrigin) -> None:
        node = self.tree
        replaced = path
        for depth, key in enumerate(path[:-1], start=1):
            child = node.get(key)
            if not isinstance(child, dict):
                child = node[key] = {}
                replaced = min(replaced, path[:depth], key=len)
            node = child
        node[path[-1]] = value
        for known in [known for known in self._origins if known[: len(replaced)] == replaced]:
            del self._origins[known]
        self._origins[path] = origin

    def origin(self, path: KeyPath) -> SettingOrigin:
        """Return the layer that set ``path``: its own, else a child's, else its parent's."""
        if found := self._origins.get(path):
            return found
        below = [origin for known, origin in self._origins.items() if known[: len(path)] == path]
        if below:
            return replace(below[-1], names_key=False)
        for length in range(len(path) - 1, 0, -1):
            if found := self._origins.get(path[:length]):
                return replace(found, names_key=False)
        return SettingOrigin(self._file)

    def provenance(self) -> dict[str, str]:
        """Return dotted key -> layer for every value that is set, in the tree's order."""
        found: dict[str, str] = {}

        def visit(value: Any, path: tuple[str, ...]) -> None:
            if isinstance(value, dict) and value:
                for key, child in value.items():
                    visit(child, (*path, key))
            elif len(path) > 1:
                found[".".join(path)] = self.origin(path).where

        visit(self.tree, ())
        return found


def _shown(path: Path, rootdir: Path) -> str:
    """Return the path as messages show it: relative to the root directory where it is in it."""
    try:
        return shown_path(path.absolute().relative_to(rootdir.absolute()))
    except ValueError:
        return shown_path(path)


def _neighbour(path: Path) -> str:
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    except OSError:
        return f" (there is no folder {path.parent})"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _foreign_file(
    path: Path | None, file: Path | None, tree: Mapping[str, Any], rootdir: Path
) -> list[Problem]:
    """Return a hint if a file found by the search has no section of ours."""
    if path is not None or file is None or set(tree) & set(Config.model_fields):
        return []
    hint = "if this file belongs to another program, name yours with --llmperf-config PATH"
    return [Problem(_shown(file, rootdir), hint, order=(9, 0))]


def _warnings(llm: LlmConfig) -> tuple[str, ...]:
    usable = usable_cpus()
    return tuple(
        f"llm.{key} is {threads}, but this process may use only {usable} "
        f"CPU{'s' if usable > 1 else ''}; threads that wait for each other are very slow"
        for key in ("n_threads", "n_threads_batch")
        if (threads := getattr(llm, key)) != "auto" and threads > usable
    )


def complaints(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path of each invalid key of a ``Config``, and a sentence about it."""
    seen = set()
    for item in error.errors(include_url=False):
        path, owner, field = _locate(item["loc"])
        if path in seen:
            continue  # a union reports each of its members
        seen.add(path)
        yield path, _sentence(dict(item), path, owner, field)


def _locate(loc: KeyPath) -> tuple[KeyPath, type[BaseModel], FieldInfo | None]:
    """Return the key's path within ``loc``, its section, and its field if there is one.

    Pydantic appends the members of a union to the path; those are left out.
    """
    owner: type[BaseModel] = Config
    for depth, part in enumerate(loc):
        field = owner.model_fields.get(str(part))
        if field is None:
            return loc[: depth + 1], owner, None
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            inside = 2 if _holds_items(field) else 1
            return loc[: depth + inside], owner, field
        owner = field.annotation
    return loc, owner, None


def _holds_items(field: FieldInfo) -> bool:
    return isinstance(field.get_default(call_default_factory=True), dict)


def _sentence(
    item: dict[str, Any],
    path: KeyPath,
    owner: type[BaseModel],
    field: FieldInfo | None,
) -> str:
    if item["type"] == "llmperf":
        return str(item["msg"])
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] == "extra_forbidden":
        return f"unknown key{_nearest(str(path[-1]), owner)}"
    if field is None:
        return f"expected a mapping of keys, got {shown(item['input'])}"
    words = next((m.words for m in _metadata(field) if isinstance(m, Expected)), "another value")
    value = item["input"]
    if words == "text" and not isinstance(value, str) and value is not None:
        return f"expected {words}, got {shown(value)}; put quotes around it"
    return f"expected {words}, got {shown(value)}"


def _metadata(field: FieldInfo) -> Iterator[Any]:
    """Yield the field's annotations, those of an optional field's inner type included."""
    yield from field.metadata
    for member in getattr(field.annotation, "__args__", ()):
        yield from getattr(member, "__metadata__", ())


def _nearest(key: str, owner: type[BaseModel]) -> str:
    known = list(owner.model_fields)
    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    elsewhere = [
        f"{section}.{key}"
        for section, info in Config.model_fields.items()
        if key in getattr(info.annotation, "model_fields", {})
    ]
    if elsewhere:
        return f" here; did you mean {elsewhere[0]!r}?"
    return f" (known: {', '.join(known)})"
