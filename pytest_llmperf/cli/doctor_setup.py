"""What ``llmperf doctor`` examines: a project's configuration, and how its engine is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.config.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.engine.launch import LaunchSpec


@dataclass(frozen=True)
class Setup:
    """A configuration, checked, and its engine, not yet started."""

    loaded: LoadedConfig
    spec: LaunchSpec


def set_up(
    file: Path | None, overrides: Sequence[str], project: ProjectFolders, environ: Mapping[str, str]
) -> Setup:
    """Read the configuration and find its model; nothing is loaded.

    Raises:
        ConfigError: naming everything that is wrong with it.
    """
    from pytest_llmperf.config.load import load_config
    from pytest_llmperf.config.model_path import resolve_model
    from pytest_llmperf.engine.launch import LaunchSpec

    try:
        loaded = load_config(file, project, environ, overrides)
    except ConfigError as error:
        raise ConfigError([_ours(problem) for problem in error.problems]) from None
    llm = loaded.config.llm
    model = None
    if llm.engine == "llama_cpp":
        _check_extra(loaded)
        model = resolve_model(llm.model_path, loaded.base_dir)
    spec = LaunchSpec(
        engine=llm.engine,
        config=llm.resolved(model),
        cwd=str(project.root),
        import_paths=(str(project.root),) if llm.engine == "app" else (),
        load_timeout=llm.load_timeout,
        generation_timeout=llm.generation_timeout,
    )
    return Setup(loaded, spec)


def _ours(problem: Problem) -> Problem:
    """Name options as this command does, not as pytest does."""
    where, text = (
        words.replace("--llmperf-set", "--set").replace("--llmperf-config", "--config")
        for words in (problem.where, problem.text)
    )
    return Problem(where, text, problem.key, problem.order)


def _check_extra(loaded: LoadedConfig) -> None:
    from pytest_llmperf.engine.installed import unknown_extra

    extra = loaded.config.llm.extra
    unknown = unknown_extra(extra) if extra else {}
    if unknown:
        raise ConfigError(
            Problem(
                loaded.provenance.get(f"llm.extra.{name}", "configuration"),
                "the installed llama_cpp.Llama takes no such argument"
                + (f"; did you mean {near!r}?" if near else ""),
                f"llm.extra.{name}",
            )
            for name, near in unknown.items()
        )
