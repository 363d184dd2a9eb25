"""Builds the configuration from its layers: file, then environment, then command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pytest_llmperf.config.errors import ConfigError, Problem
from pytest_llmperf.config.fields import Expected
from pytest_llmperf.config.layers import Layers
from pytest_llmperf.config.project import ProjectFolders
from pytest_llmperf.config.schema import Config, LlmConfig
from pytest_llmperf.config.yaml_file import KeyPath, read_document
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.metrics import load_installed_metrics
from pytest_llmperf.system_path import shown_path, system_path
from pytest_llmperf.units import shown


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
    config = Config()
    try:
        config = Config.model_validate(layers.tree)
    except ValidationError as error:
        for path_of_key, text in _complaints(error):
            origin = layers.origin(path_of_key)
            key = "" if origin.names_key else ".".join(map(str, path_of_key))
            problems.append(Problem(origin.where, text, key, origin.order))
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


def _complaints(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
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
