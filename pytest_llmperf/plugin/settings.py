"""What a session runs with: configuration, model file and engine, resolved once when needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.plugin.adopt import ROOTS
from pytest_llmperf.plugin.options import Options

if TYPE_CHECKING:
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.config.model_files import ModelFiles
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.config.schema import LlmConfig
    from pytest_llmperf.engine.client import LaunchSpec
    from pytest_llmperf.engine.handle import LlmEngine


@dataclass
class Settings:
    """A session's configuration, checked, before anything is loaded.

    Attributes:
        loaded: the configuration and where each value came from.
        model: the resolved model's files, or None for an ``app`` engine.
        spec: how engine processes are started.
        engine: the session's engine; its worker starts when first asked.
    """

    loaded: LoadedConfig
    model: ModelFiles | None
    spec: LaunchSpec
    engine: LlmEngine


_KEY = pytest.StashKey[Settings]()


def settings_of(config: pytest.Config) -> Settings:
    """Return the session's settings, resolving them on the first call.

    Raises:
        pytest.UsageError: naming everything that is wrong with the configuration.
    """
    if _KEY not in config.stash:
        config.stash[_KEY] = _resolve(config)
    return config.stash[_KEY]


def current_settings(config: pytest.Config) -> Settings | None:
    """Return the settings if something has needed them already."""
    return config.stash.get(_KEY, None)


def load(config: pytest.Config) -> LoadedConfig:
    """Read the configuration and nothing else: no model is looked for.

    Raises:
        pytest.UsageError: naming everything that is wrong with it.
    """
    options = Options.of(config)
    return load_file(config, options.config_file, options.overrides)


def load_file(config: pytest.Config, file: Path | None, overrides: tuple[str, ...]) -> LoadedConfig:
    """Read one configuration file (None: the default one) under the environment's settings.

    Raises:
        pytest.UsageError: naming everything that is wrong with it.
    """
    from pytest_llmperf.config.errors import ConfigError
    from pytest_llmperf.config.load import load_config
    from pytest_llmperf.plugin.usage import usage_error

    try:
        return load_config(file, project_of(config), os.environ, overrides)
    except ConfigError as error:
        raise usage_error(str(error)) from None


def project_of(config: pytest.Config) -> ProjectFolders:
    """Return the folders that decide which configuration file a session reads."""
    from pytest_llmperf.config.project import ProjectFolders

    ini = config.inipath
    # ``-c /dev/null`` asks for no settings, and names no project.
    settings = ini.parent if ini is not None and ini.is_file() else config.rootpath
    return ProjectFolders(config.rootpath, settings, config.invocation_params.dir)


def config_line(config: pytest.Config) -> str:
    """Say which configuration file this session reads."""
    project, named = project_of(config), Options.of(config).config_file
    return project.describe(named or project.config_file())


def _resolve(config: pytest.Config) -> Settings:
    from pytest_llmperf.engine.device_lock import DeviceLock
    from pytest_llmperf.engine.handle import LlmEngine

    loaded = load(config)
    spec, model = spec_of(config, loaded)
    lock = DeviceLock(notify=_notifier(config))
    engine = LlmEngine(spec, loaded.config.llm.max_tokens, lock)
    return Settings(loaded, model, spec, engine)


def model_identity(model: ModelFiles | None, llm: LlmConfig) -> str:
    """Return the SHA-256 over a model's files; of an ``app`` engine its callable's name."""
    return model.sha256() if model is not None else str(llm.target)


def spec_of(config: pytest.Config, loaded: LoadedConfig) -> tuple[LaunchSpec, ModelFiles | None]:
    """Return how a configuration's engine is started, and the files of its model.

    Raises:
        pytest.UsageError: the model, or what the engine is to be given, is not there.
    """
    from pytest_llmperf.config.errors import ConfigError, ModelError
    from pytest_llmperf.config.model_files import ModelFiles
    from pytest_llmperf.config.model_path import resolve_model
    from pytest_llmperf.engine.client import LaunchSpec
    from pytest_llmperf.plugin.usage import usage_error

    llm = loaded.config.llm
    model = None
    try:
        if llm.engine == "llama_cpp":
            _check_extra(llm.extra, loaded.provenance)
            file = resolve_model(llm.model_path, loaded.base_dir)
            model = ModelFiles.of(file, llm.extra, config.rootpath)
    except ModelError as error:
        where = loaded.provenance.get("llm.model_path", "default")
        # Environment and command line name the key by themselves.
        key = "" if where.startswith(("--", "environment")) else "llm.model_path: "
        raise usage_error(f"{where}: {key}{error}") from None
    except ConfigError as error:
        raise usage_error(str(error)) from None
    spec = LaunchSpec(
        engine=llm.engine,
        config=llm.resolved(model.first if model is not None else None),
        cwd=str(config.rootpath),
        # An application is imported the way the tests import it.
        import_paths=_import_paths(config) if llm.engine == "app" else (),
        load_timeout=llm.load_timeout,
        generation_timeout=llm.generation_timeout,
    )
    return spec, model


def _import_paths(config: pytest.Config) -> tuple[str, ...]:
    """Return where an application's modules are looked for first, as its tests import them.

    The folders that the session was started with (``adopt.py``), pytest's
    ``pythonpath``, the root folder, and the folder of pytest's settings file.
    """
    paths = [config.rootpath / path for path in config.getini("pythonpath")]
    paths += [config.rootpath, project_of(config).settings]
    return tuple(dict.fromkeys(str(path) for path in (*given_roots(), *paths)))


def given_roots() -> list[str]:
    """Return the folders that this session was told to import from first."""
    return [path for path in os.environ.get(ROOTS, "").split(os.pathsep) if path]


def _check_extra(extra: dict[str, Any], provenance: Mapping[str, str]) -> None:
    from pytest_llmperf.engine.installed import unknown_extra
    from pytest_llmperf.plugin.usage import usage_error

    unknown = unknown_extra(extra) if extra else {}
    if unknown:
        lines = [
            f"{provenance.get(f'llm.extra.{name}', 'configuration')}: llm.extra.{name}: "
            "the installed llama_cpp.Llama takes no such argument"
            + (f"; did you mean {near!r}?" if near else "")
            for name, near in unknown.items()
        ]
        raise usage_error("\n".join(lines))


def _notifier(config: pytest.Config) -> Callable[[str], None]:
    from pytest_llmperf.report.text import printable_lines

    def notify(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"llmperf: {printable_lines(line)}")

    return notify
