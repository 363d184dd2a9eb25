"""Runs a recording session in another source tree or configuration; reads the recording."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.config.embedded import cache_dir
from pytest_llmperf.plugin import adopt
from pytest_llmperf.plugin.options import Options
from pytest_llmperf.plugin.own_options import own_options
from pytest_llmperf.process_groups import run_to_log
from pytest_llmperf.repository.command import without_repository
from pytest_llmperf.session.base_recording import (
    PLUGIN_PACKAGE,
    BaseRecording,
    OtherTree,
    RecordingRequest,
)
from pytest_llmperf.session.base_side import SideError
from pytest_llmperf.text import printable

if TYPE_CHECKING:
    from pytest_llmperf.packages.environment import Environment

_TAIL = 30
#: Folder in the cache for the output of failed recording sessions, and how long it is kept.
_LOGS = "logs"
_KEPT_FOR_S = 30 * 24 * 3600.0


def record_elsewhere(
    config: pytest.Config, tree: OtherTree, wanted: Sequence[str]
) -> BaseRecording:
    """Run the wanted tests' bodies once in the other tree, and return the recording.

    Raises:
        SideError: the recording session failed; with the end of its output.
    """
    from pytest_llmperf.packages.roots import own_modules

    paths = _paths(config, tree, wanted)
    if not paths:
        return BaseRecording()
    modules = own_modules(tree.project, tree.roots) - {PLUGIN_PACKAGE}
    # If this session is killed, the folder is removed together with the tree's.
    with tempfile.TemporaryDirectory(
        prefix="llmperf-", dir=tree.scratch, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        outcome, log = folder / "outcome.json", folder / "log.txt"
        request = folder / "request.json"
        RecordingRequest(tuple(wanted), tuple(sorted(modules)), str(outcome)).write(request)
        command = [
            *adopt_command(tree.environment, tree.roots),
            *(f"--llmperf-record-for={request}", "--llmperf-one-process"),
            *("-o", f"cache_dir={folder / 'cache'}"),
            *("--continue-on-collection-errors", "--maxfail=0"),
            # Before ours: an option with a variable number of words must not take the paths.
            *own_options(config),
            *_options(config, tree),
            *paths,
        ]
        status = run_to_log(command, _cwd(config, tree), tree_environment(tree), log)
        try:
            return BaseRecording.read(outcome)
        except (OSError, ValueError):
            raise SideError(_no_outcome(tree, status, _kept(log))) from None


def adopt_command(environment: Environment, roots: Sequence[str]) -> list[str]:
    """Return the command that runs pytest in an environment with this copy of the plugin.

    Append pytest's own arguments to it.
    """
    also: list[str] = []
    if not environment.shared:
        # The plugin's dependencies, which the environment may lack; after its own packages.
        for path in sys.path:
            if path and Path(path).name in ("site-packages", "dist-packages"):
                also += ["--also", path]
    script = str(Path(adopt.__file__).resolve())
    return [environment.python, script, *also, *roots, "--"]


def tree_environment(tree: OtherTree) -> dict[str, str]:
    """Return the environment variables of a process in the other tree, with paths moved into it.

    Other variables, such as the locale, are this session's, so that both sides do the same work.
    """
    environ = {
        name: value
        for name, value in without_repository().items()
        if not name.startswith("PYTEST_XDIST")
    }
    environ.pop("PYTEST_CURRENT_TEST", None)
    environ[_ROOT] = str(tree.project)
    if paths := environ.get("PYTHONPATH"):
        moved = [tree.moved(entry) for entry in paths.split(os.pathsep)]
        environ["PYTHONPATH"] = os.pathsep.join(moved)
    return environ


#: Variable with the root folder: pytest expands --rootdir, and the folder's name may have a $.
_ROOT = "LLMPERF_BASE_ROOT"
ROOTDIR = f"--rootdir=${_ROOT}"


def _paths(config: pytest.Config, tree: OtherTree, wanted: Sequence[str]) -> list[str]:
    """Return the counterparts, in the other tree, of the files and folders given to pytest.

    Single tests are selected by the list of wanted ones; missing paths are left out. Files of
    wanted tests are added, as they may have been given in another way (``--pyargs``).
    """
    start_folder, root = config.invocation_params.dir, config.rootpath
    given = [start_folder / argument.partition("::")[0] for argument in config.args]
    files = [root / nodeid.partition("::")[0] for nodeid in wanted]
    moved_paths: dict[Path, None] = {}
    for path in dict.fromkeys((*given, *files)):
        moved = Path(tree.moved(str(path.resolve())))
        known = path not in given and any(moved.is_relative_to(above) for above in moved_paths)
        if moved.exists() and not known:
            moved_paths[moved] = None
    return list(map(str, moved_paths))


def _options(config: pytest.Config, tree: OtherTree) -> list[str]:
    """Return pytest's options that decide which tests exist, and our own settings."""
    option = config.option
    arguments = ["-m", option.markexpr, ROOTDIR]
    if option.keyword:
        arguments += ["-k", option.keyword]
    if config.inipath is not None:
        inifile = Path(tree.moved(str(config.inipath.resolve())))
        if inifile.is_file():
            arguments += ["-c", str(inifile)]
    if option.llmperf_rate is not None:
        arguments.append(f"--llmperf-rate={option.llmperf_rate}")
    for entry in option.override_ini or ():
        arguments += ["-o", entry]
    for plugin in option.plugins or ():
        if plugin not in ("no:llmperf", "pytest_llmperf.plugin"):
            arguments += ["-p", plugin]
    arguments.append(f"--import-mode={option.importmode}")
    options = Options.of(config)
    if tree.config_file is not None:
        arguments.append(f"--llmperf-config={tree.config_file}")
        return arguments
    if options.config_file is not None:
        arguments.append(f"--llmperf-config={tree.moved(str(options.config_file.resolve()))}")
    arguments += [f"--llmperf-set={override}" for override in options.overrides]
    return arguments


def _cwd(config: pytest.Config, tree: OtherTree) -> Path:
    moved = Path(tree.moved(str(config.invocation_params.dir.resolve())))
    return moved if moved.is_dir() else tree.project


def _no_outcome(tree: OtherTree, status: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(f"  | {printable(line)}" for line in lines[-_TAIL:])
    return (
        f"the tests could not be recorded at {tree.title}: pytest exited "
        f"with status {status} there, so speed was not compared. End of its output ({log}):\n{tail}"
    )


def _kept(log: Path) -> Path:
    """Copy a log to a permanent folder, and remove old logs.

    If the cache folder can't be written to, the copy goes to the system's temporary files.
    """
    folder = cache_dir(os.environ) / _LOGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.log"):
            if time.time() - old.stat().st_mtime > _KEPT_FOR_S:
                old.unlink()
        handle, name = tempfile.mkstemp(prefix="recording-", suffix=".log", dir=folder)
    except OSError:
        handle, name = tempfile.mkstemp(prefix="llmperf-", suffix=".log")
    with os.fdopen(handle, "wb") as copy, suppress(OSError):
        copy.write(log.read_bytes())
    return Path(name)
