"""This pytest run's configuration and engine, read from its options on first use."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.plugin.adopt import ROOTS
from pytest_llmperf.plugin.options import Options, usage_error

if TYPE_CHECKING:
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.session.cell import Cell
    from pytest_llmperf.session.setup import EngineSetup


@dataclass(frozen=True)
class Settings:
    """Configuration and engine of a pytest run, before anything is loaded.

    Attributes:
        setup: the configuration, checked, and how its engine is started.
        engine: the session's engine; its worker starts with the first request.
        cells: the tests in sweeps by node id, each with its own engine settings.
    """

    setup: EngineSetup
    engine: LlmEngine
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def uses_other_settings(self) -> bool:
        """Whether the engine is set to the settings of a test in a sweep."""
        return self.engine.spec is not self.setup.spec

    def setup_of(self, nodeid: str) -> EngineSetup:
        """Return the configuration of a test."""
        return self.cells[nodeid].setup if nodeid in self.cells else self.setup


_KEY = pytest.StashKey[Settings]()


def settings_of(config: pytest.Config) -> Settings:
    """Return the session's settings, resolving them on the first call.

    Raises:
        pytest.UsageError: naming all problems with the configuration.
    """
    if _KEY not in config.stash:
        config.stash[_KEY] = _resolve(config)
    return config.stash[_KEY]


def current_settings(config: pytest.Config) -> Settings | None:
    """Return the settings if they have been resolved already."""
    return config.stash.get(_KEY, None)


def load(config: pytest.Config) -> LoadedConfig:
    """Read the configuration and nothing else: no model is looked for.

    Raises:
        pytest.UsageError: naming all its problems.
    """
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.config.load import load_config

    options = Options.of(config)
    try:
        return load_config(options.config_file, project_of(config), os.environ, options.overrides)
    except ConfigError as error:
        raise usage_error(str(error)) from None


def project_of(config: pytest.Config) -> ProjectFolders:
    """Return the folders that decide which configuration file a session reads."""
    from pytest_llmperf.config.project import ProjectFolders

    ini = config.inipath
    # ``-c /dev/null`` asks for no settings, and names no project.
    settings = ini.parent if ini is not None and ini.is_file() else config.rootpath
    return ProjectFolders(config.rootpath, settings, config.invocation_params.dir)


def header_lines(config: pytest.Config) -> list[str]:
    """Name this session's configuration file, model, backend and threads, on one line if it fits.

    If the configuration is wrong, name only the file: errors are reported at collection.
    """
    from pytest_llmperf.session.setup import setup_words
    from pytest_llmperf.text import DOT, pack, printable

    project, named = project_of(config), Options.of(config).config_file
    try:
        words = setup_words(project, load(config))
    except pytest.UsageError:
        words = [project.describe(named or project.config_file())]
    width = config.get_terminal_writer().fullwidth
    words[0] = f"llmperf: {words[0]}"
    return pack([*map(printable, words)], width, "  ", joint=DOT)


def _resolve(config: pytest.Config) -> Settings:
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.engine.device_lock import DeviceLock
    from pytest_llmperf.engine.handle import LlmEngine
    from pytest_llmperf.session.measuring import cards_of
    from pytest_llmperf.session.setup import set_up_engine

    loaded = load(config)
    try:
        setup = set_up_engine(
            loaded, project_of(config), import_paths(config), Options.of(config).overrides
        )
    except ConfigError as error:
        raise usage_error(str(error)) from None
    # The cards of the settings in use at locking: a cell of a sweep may use other cards.
    lock = DeviceLock(notify=_notifier(config), cards=lambda: cards_of([engine.spec]))
    engine = LlmEngine(setup.spec, setup.llm.max_tokens, lock)
    return Settings(setup, engine)


def import_paths(config: pytest.Config) -> tuple[str, ...]:
    """Return the folders to import an application's modules from first, as its tests do.

    The folders that the session was started with (``adopt.py``), pytest's
    ``pythonpath``, the root folder, and the folder of pytest's settings file.
    """
    paths = [config.rootpath / path for path in config.getini("pythonpath")]
    paths += [config.rootpath, project_of(config).settings]
    return tuple(dict.fromkeys(str(path) for path in (*given_roots(), *paths)))


def given_roots() -> tuple[str, ...]:
    """Return the folders to import from first, as set by ``adopt.py``."""
    return tuple(path for path in os.environ.get(ROOTS, "").split(os.pathsep) if path)


def _notifier(config: pytest.Config) -> Callable[[str], None]:
    from pytest_llmperf.text import wrap_words

    def notify(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        capture = config.pluginmanager.get_plugin("capturemanager")
        # Called while a test's body runs, whose output pytest keeps and shows only if it fails.
        shown = nullcontext() if capture is None else capture.global_and_fixture_disabled()
        with shown:
            reporter.ensure_newline()
            width = config.get_terminal_writer().fullwidth
            for part in wrap_words(line, width, first="llmperf: "):
                reporter.write_line(part)

    return notify
