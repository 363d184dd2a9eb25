"""Input of ``llmperf doctor``: a project's configuration, and how to start its engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.config.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.session.setup import EngineSetup


def set_up(
    file: Path | None, overrides: Sequence[str], project: ProjectFolders, environ: Mapping[str, str]
) -> EngineSetup:
    """Read the configuration and find its model; nothing is loaded.

    Raises:
        ConfigError: the configuration is wrong; the message names every problem.
    """
    from pytest_llmperf.session.setup import set_up_engine

    loaded = load_for_command(file, overrides, project, environ)
    with _naming_own_options():
        return set_up_engine(loaded, project, [str(project.root)], overrides)


def load_for_command(
    file: Path | None, overrides: Sequence[str], project: ProjectFolders, environ: Mapping[str, str]
) -> LoadedConfig:
    """Read the configuration; problems name ``--config`` and ``--set``, not pytest's options.

    Raises:
        ConfigError: the configuration is wrong; the message names every problem.
    """
    from pytest_llmperf.config.load import load_config

    with _naming_own_options():
        return load_config(file, project, environ, overrides)


@contextmanager
def _naming_own_options() -> Iterator[None]:
    """Name options in errors as this command does, not as pytest does."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([_with_own_options(problem) for problem in error.problems]) from None


def _with_own_options(problem: Problem) -> Problem:
    where, text = (
        words.replace("--llmperf-set", "--set").replace("--llmperf-config", "--config")
        for words in (problem.where, problem.text)
    )
    return Problem(where, text, problem.key, problem.order)
