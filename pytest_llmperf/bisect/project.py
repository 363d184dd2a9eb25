"""The project to search in: its folders, arguments, settings, machine and packages."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmperf import __version__
from pytest_llmperf.baselines.calibrations import CALIBRATIONS_VARIABLE, FOLDER
from pytest_llmperf.config.project import ProjectFolders
from pytest_llmperf.repository.git import Repository

if TYPE_CHECKING:
    from pytest_llmperf.config.schema import PerfConfig

#: Settings that every commit gets from the work tree: those of the gate, and the installation of a
#: commit's packages, a setting that an old commit does not know.
_FIXED = ("budget", "false_alarms", "tolerance", "accumulate", "base_install")


class ProjectError(Exception):
    """Raised if a folder has no commits to search; ``str()`` is a complete message."""


@dataclass(frozen=True)
class BisectProject:
    """A project folder in a repository.

    Attributes:
        cwd: the folder in which the command was called; ``root`` or below it.
        baselines: the folder in which sessions are recorded.
        tests: files, folders or node ids as for pytest, relative to ``cwd``; empty for all.
        arguments: pytest's other arguments.
    """

    repository: Repository
    root: Path
    cwd: Path
    perf: PerfConfig
    baselines: Path
    tests: tuple[str, ...]
    arguments: tuple[str, ...]

    def key(self) -> list[object]:
        """Return everything that distinguishes a search in this project from others."""
        top = self.repository.top
        places = [self.repository.common_dir, self.root.relative_to(top), self.cwd.relative_to(top)]
        around = circumstances(top, os.environ)
        settings = [*self.overrides(), *self._calibrations()]
        return [*map(str, places), self.tests, self.arguments, settings, *around]

    def overrides(self) -> list[str]:
        """Return pytest arguments that give every commit the same ``_FIXED`` settings."""
        settings = {name: getattr(self.perf, name) for name in _FIXED}
        return [
            f"--llmperf-set=perf.{name}={json.dumps(value, ensure_ascii=False)}"
            for name, value in settings.items()
        ]

    def environment(self) -> dict[str, str]:
        """Return the environment variables that give every commit the work tree's calibrations."""
        return {CALIBRATIONS_VARIABLE: str(self.baselines)}

    def _calibrations(self) -> list[str]:
        """Return the calibrations that set tolerances; none if the tolerance is fixed."""
        if self.perf.tolerance != "auto":
            return []
        files = self.baselines.glob(f"*/{FOLDER}/*.json")
        return sorted(str(file.relative_to(self.baselines)) for file in files)


def find_project(cwd: Path, words: Sequence[str]) -> BisectProject:
    """Return the project around ``cwd``; ``words`` are tests, then pytest's arguments.

    Raises:
        ProjectError: there is no repository.
        ConfigError: the project's configuration is wrong.
    """
    from pytest_llmperf.config.load import load_config

    cwd = cwd.resolve()
    repository = Repository.around(cwd)
    if repository is None:
        raise ProjectError(f"{cwd} is not in a git work tree, so there are no commits to search")
    split = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    tests, arguments = tuple(words[:split]), tuple(words[split:])
    asked = _own_options(arguments)
    folders = _folders(cwd, tests, asked, repository.top)
    file = cwd / asked.llmperf_config if asked.llmperf_config else None
    loaded = load_config(file, folders, os.environ, asked.llmperf_set)
    perf, baselines = loaded.config.perf, loaded.baselines_dir
    return BisectProject(repository, folders.root, cwd, perf, baselines, tests, arguments)


def _folders(
    cwd: Path, tests: Sequence[str], asked: argparse.Namespace, top: Path
) -> ProjectFolders:
    """Return the folders from which pytest takes the project's settings."""
    folders = ProjectFolders.around(cwd, tests)
    if asked.config_file:
        settings = (cwd / asked.config_file).resolve().parent
        folders = replace(folders, settings=settings, root=settings)
    if asked.rootdir:
        folders = replace(folders, root=(cwd / os.path.expandvars(asked.rootdir)).resolve())
    # Only files of the repository exist at another commit, so the root must lie inside it.
    return folders if folders.root.is_relative_to(top) else replace(folders, root=top)


def _own_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options among pytest's arguments that concern the configuration."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--llmperf-config")
    parser.add_argument("--llmperf-set", action="append", default=[])
    parser.add_argument("-c", "--config-file")
    parser.add_argument("--rootdir")
    return parser.parse_known_args(list(arguments))[0]


def host_label() -> str:
    """Return a label of this machine that needs no engine: processor, usable cores, GPUs."""
    from pytest_llmperf.machine.fingerprint import read_machine
    from pytest_llmperf.machine.gpu.devices import read_gpus

    processor = read_machine("cpu").key.removesuffix("_cpu")
    return ", ".join([processor, *(gpu.name for gpu in read_gpus().gpus)])


def circumstances(area: Path, environ: Mapping[str, str]) -> list[object]:
    """Return everything besides the commits that influences a search's measurements.

    These are plugin, interpreter, installed packages (the engine among them) and the environment
    variables that configure plugin and engines. Editable installs from ``area``, the work tree,
    don't count, because each commit brings its own.
    """
    from pytest_llmperf.packages.fingerprint import deciding_variables, installed_digest

    variables = deciding_variables(environ) | {
        name: value
        for name, value in environ.items()
        # LLMPERF_<SECTION>__<KEY> are settings; the other variables only name folders.
        if name.upper().startswith("LLMPERF_") and "__" in name
    }
    return [
        __version__,
        platform.python_version(),
        installed_digest(area),
        sorted(variables.items()),
    ]
