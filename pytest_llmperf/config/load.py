"""Builds the configuration from its layers: file, then environment, then command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_llmperf.config.error_messages import error_messages
from pytest_llmperf.config.errors import ConfigError, Problem
from pytest_llmperf.config.layers import Layers
from pytest_llmperf.config.llm_section import LlmConfig, ThreadSettings
from pytest_llmperf.config.project import ProjectFolders
from pytest_llmperf.config.schema import Config
from pytest_llmperf.config.yaml_file import read_document
from pytest_llmperf.cpus import usable_cpus
from pytest_llmperf.metrics import load_installed_metrics
from pytest_llmperf.system_path import shown_path, system_path


@dataclass(frozen=True)
class LoadedConfig:
    """A valid configuration and where it came from.

    Attributes:
        config: the settings.
        path: the file that was read, or None if there was none.
        warnings: allowed settings that are probably mistakes, one sentence each.
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
        project: where to look for it: a project's folders, or a single folder.
        environ: environment; names such as ``LLMPERF_LLM__N_BATCH`` are used.
        overrides: arguments such as ``llm.n_batch=512``.

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
    """Return the configuration of the layers, and problems; if there are any, the defaults."""
    layers.settle_engine()
    try:
        return Config.model_validate(layers.tree), []
    except ValidationError as error:
        problems = []
        for path, text in error_messages(error, layers.tree):
            origin = layers.origin(path)
            key = "" if origin.names_key else ".".join(map(str, path))
            problems.append(Problem(origin.where, text, key, origin.order))
        return Config(), problems


def _shown(path: Path, rootdir: Path) -> str:
    """Return a path for messages: relative to the root directory if it is inside."""
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
    """Return a hint if the search found a file that has no section of ours."""
    if path is not None or file is None or set(tree) & set(Config.model_fields):
        return []
    hint = "if this file belongs to another program, name yours with --llmperf-config PATH"
    return [Problem(_shown(file, rootdir), hint, order=(9, 0))]


def _warnings(llm: LlmConfig) -> tuple[str, ...]:
    usable = usable_cpus()
    if not isinstance(llm, ThreadSettings):
        return ()
    return tuple(
        f"llm.{key} is {threads}, but this process may use only {usable} "
        f"CPU{'s' if usable > 1 else ''}; threads that wait for each other are very slow"
        for key in ThreadSettings.model_fields
        if (threads := getattr(llm, key)) != "auto" and threads > usable
    )
