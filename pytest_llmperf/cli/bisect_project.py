"""Where ``llmperf bisect`` was called: the project, its settings, and what pytest is to run."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf.cli.bisect_host import circumstances
from pytest_llmperf.repository.git import Repository

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig

#: A folder with one of these is what node ids and settings are relative to.
_MARKS = ("config.yaml", "pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "setup.py")
#: Settings that all commits get from the work tree: those of the gate, and how a commit's
#: packages are installed, which an old commit does not know of.
_FIXED = ("budget", "false_alarms", "tolerance", "accumulate", "base_install")


class ProjectError(Exception):
    """There is nothing here to search in; ``str()`` is a complete message."""


@dataclass(frozen=True)
class Project:
    """A project folder in a repository.

    Attributes:
        repository: the user's.
        root: the project's folder.
        cwd: where the command was called; ``root`` or below it.
        perf: how tests are measured and judged.
        tests: files, folders or node ids as for pytest, relative to ``cwd``; empty for all.
        arguments: pytest's other arguments.
    """

    repository: Repository
    root: Path
    cwd: Path
    perf: PerfConfig
    tests: tuple[str, ...]
    arguments: tuple[str, ...]

    def key(self) -> list[object]:
        """Return what makes a search in this project another one."""
        top = self.repository.top
        places = [self.repository.common_dir, self.root.relative_to(top), self.cwd.relative_to(top)]
        here = circumstances(top, os.environ)
        return [*map(str, places), self.tests, self.arguments, self.overrides(), *here]

    def overrides(self) -> list[str]:
        """Return pytest's arguments that give every commit the same gate and installation."""
        settings = {name: getattr(self.perf, name) for name in _FIXED}
        return [
            f"--llmperf-set=perf.{name}={json.dumps(value, ensure_ascii=False)}"
            for name, value in settings.items()
        ]


def find_project(cwd: Path, words: Sequence[str]) -> Project:
    """Return the project around ``cwd``; ``words`` are tests, then pytest's arguments.

    Raises:
        ProjectError: there is no repository.
        ConfigError: the project's configuration is wrong.
    """
    from pytest_llmperf.config.load import load_config

    cwd = cwd.resolve()
    repository = Repository.around(cwd)
    if repository is None:
        raise ProjectError(f"{cwd} is in no git repository with a work tree, so it has no commits")
    split = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    tests, arguments = tuple(words[:split]), tuple(words[split:])
    root = _root(cwd, repository.top)
    file, overrides = _own_options(arguments)
    loaded = load_config(cwd / file if file else None, root, os.environ, overrides)
    return Project(repository, root, cwd, loaded.config.perf, tests, arguments)


def _root(cwd: Path, top: Path) -> Path:
    """Return the nearest folder that looks like a project's."""
    for folder in (cwd, *cwd.parents):
        if any((folder / name).is_file() for name in _MARKS):
            return folder
        if folder == top:
            break
    return cwd


def _own_options(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the configuration file and the settings among pytest's arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--llmperf-config")
    parser.add_argument("--llmperf-set", action="append", default=[])
    found, _ = parser.parse_known_args(list(arguments))
    return found.llmperf_config, found.llmperf_set
