"""The setup of a session: checked configuration, model files, launch of engines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pytest_llmperf.config.errors import ConfigError, ModelError, Problem
from pytest_llmperf.engine.client import EngineClient
from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.gpu_shortfall import GpuRequirement, LoadContext, find_shortfall
from pytest_llmperf.engine.installed import installed_backend
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.engine_kinds import OWN, EngineKind, EngineKindError
from pytest_llmperf.gate.words import count
from pytest_llmperf.measure.fresh_model import start_engine
from pytest_llmperf.measure.replication import replication_unit

if TYPE_CHECKING:
    from pytest_llmperf.config.llm_section import LlmConfig
    from pytest_llmperf.config.load import LoadedConfig
    from pytest_llmperf.config.model_files import ModelFiles
    from pytest_llmperf.config.project import ProjectFolders
    from pytest_llmperf.config.schema import PerfConfig
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine.planted import Plant
    from pytest_llmperf.measure.sides import StartEngine

#: What ``perf.require_gpu`` asks for.
ALL_LAYERS = GpuRequirement()


@dataclass(frozen=True)
class EngineSetup:
    """A configuration and its engine, checked and not yet started.

    Attributes:
        loaded: the configuration and where each value came from.
        model: the model's files; None for an engine without one.
        spec: how the engine's processes are started.
        project: the folders of its project.
        overrides: settings that override the file, such as ``llm.n_ctx=512``.
    """

    loaded: LoadedConfig
    model: ModelFiles | None
    spec: LaunchSpec
    project: ProjectFolders
    overrides: tuple[str, ...] = ()

    @property
    def llm(self) -> LlmConfig:
        """The engine's settings."""
        return self.loaded.config.llm

    @property
    def perf(self) -> PerfConfig:
        """The settings for measuring and judging."""
        return self.loaded.config.perf

    @property
    def model_identity(self) -> str:
        """SHA-256 over the model's files; without files a name, such as the callable's."""
        if self.model is not None:
            return self.model.sha256()
        return self.llm.kind.identity_without_model(self.llm.resolved())

    @property
    def placement_unknown(self) -> str:
        """The message that this engine does not report where its layers are, and what to do."""
        return (
            f"llm.engine: {self.llm.engine} does not report where its layers are, so the "
            "requirement can't be checked; remove it, or set llm.engine: llama_cpp"
        )

    def starter(self, plant: Plant | None = None) -> StartEngine:
        """Return a function that starts a fresh engine process, of this setup or of a spec.

        With ``perf.require_gpu`` a process that came up without the GPU (which was lost
        meanwhile) raises an EngineError, so that it is not measured.

        Args:
            plant: an artificial slowdown to add to the process.
        """

        def start(spec: LaunchSpec | None = None) -> EngineClient:
            client = start_engine(replace(spec or self.spec, plant=plant))
            return self._checked_gpu(client) if self.perf.require_gpu else client

        return start

    def for_cell(self, settings: Mapping[str, Any], set_by: str) -> EngineSetup:
        """Return this setup with the settings of a sweep's cell, for the same model.

        Args:
            settings: see ``config/cell_settings.py``.
            set_by: the source of the settings, for messages.

        Raises:
            WrongSettingError: a value that the setting, or the installed engine, can't have.
            ImpossibleSettingsError: values that contradict each other.
        """
        from pytest_llmperf.config.cell_settings import WrongSettingError, with_settings
        from pytest_llmperf.config.model_files import ModelFiles

        llm = with_settings(self.llm, settings)
        if refused := llm.kind.refused(llm.extra):
            texts = (f"extra.{name}: {text}" for name, text in refused.items())
            raise WrongSettingError("\n".join(texts))
        model = self.model
        if model is not None and ModelFiles.of(model.first, llm.extra, self.project.root) != model:
            raise WrongSettingError(
                f"{', '.join(settings)}: names another file of the model, and a session has one "
                "model; set it in config.yaml, or with --llmperf-set"
            )
        loaded = self.loaded
        return replace(
            self,
            loaded=replace(
                loaded,
                config=loaded.config.model_copy(update={"llm": llm}),
                provenance={**loaded.provenance, **{f"llm.{name}": set_by for name in settings}},
            ),
            spec=replace(
                self.spec, config=llm.resolved(model.first if model is not None else None)
            ),
            overrides=(
                *self.overrides,
                *(f"llm.{name}={json.dumps(value)}" for name, value in settings.items()),
            ),
        )

    def shortfall(self, who: str, requirement: GpuRequirement, info: EngineInfo) -> str | None:
        """Return which required layers are not on the GPU, and why; None if all are.

        Args:
            who: what requires them, for messages.
            requirement: the layers and their device.
            info: what the engine loaded.
        """
        if info.gpu is None:
            return f"{who}: {self.placement_unknown}"
        situation = LoadContext(
            backend=installed_backend(),
            engine_version=info.engine_version,
            environ={**os.environ, **self.spec.env},
            set_by=self.loaded.provenance.get("llm.n_gpu_layers", ""),
        )
        missing = find_shortfall(info.gpu, requirement, situation)
        return f"{who}: {missing}" if missing is not None else None

    def _checked_gpu(self, client: EngineClient) -> EngineClient:
        if text := self.shortfall("perf.require_gpu", ALL_LAYERS, client.info):
            client.close()
            raise EngineError(text)
        return client


def set_up_engine(
    loaded: LoadedConfig,
    project: ProjectFolders,
    import_paths: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> EngineSetup:
    """Find the model of a configuration and check the engine's arguments.

    Args:
        loaded: the configuration.
        project: its project; engine processes run in its root folder.
        import_paths: folders that an application's modules are imported from first.
        overrides: the settings that override the file.

    Raises:
        ConfigError: the model, or an argument of the engine, does not exist.
    """
    from pytest_llmperf.config.llm_section import ModelSettings
    from pytest_llmperf.config.model_files import ModelFiles
    from pytest_llmperf.config.model_path import resolve_model

    llm, model, folder = loaded.config.llm, None, project.root
    try:
        _check_kind(llm)
        _check_extra(llm, loaded.provenance)
    except EngineKindError as error:
        where = loaded.provenance.get("llm.engine", "configuration")
        key = "" if where.startswith(("--", "environment")) else "llm.engine"
        raise ConfigError([Problem(where, str(error), key)]) from None
    if isinstance(llm, ModelSettings):
        try:
            file = resolve_model(llm.model_path, loaded.base_dir)
        except ModelError as error:
            where = loaded.provenance.get("llm.model_path", "default")
            # Environment and command line already name the key.
            key = "" if where.startswith(("--", "environment")) else "llm.model_path"
            raise ConfigError([Problem(where, str(error), key)]) from None
        model = ModelFiles.of(file, llm.extra, folder)
    spec = LaunchSpec(
        engine=llm.engine,
        config=llm.resolved(model.first if model is not None else None),
        cwd=str(folder),
        # An application is imported the way the tests import it.
        import_paths=tuple(import_paths) if llm.kind.runs_project_code else (),
        load_timeout=llm.load_timeout,
        generation_timeout=llm.generation_timeout,
    )
    return EngineSetup(loaded, model, spec, project, tuple(overrides))


def setup_words(project: ProjectFolders, loaded: LoadedConfig) -> list[str]:
    """Describe a configuration: its file, the model or application, the backend and threads.

    Nothing is searched for or loaded: a model is named after its file.
    """
    llm, words = loaded.config.llm, [project.describe(loaded.path)]
    try:
        kind, settings = llm.kind, llm.resolved()
        words.append(_model_words(kind, settings))
        if kind.uses_llama_settings:
            on_gpu = f"n_gpu_layers {settings['n_gpu_layers']}"
            layers = [] if kind.backend_name == "cpu" else [on_gpu]
            threads = count(settings["n_threads"], "thread")
            words.append(", ".join([kind.backend_name, *layers, threads]))
    except EngineKindError:
        # The setup that follows reports the error.
        return words[:1]
    return words


def _model_words(kind: EngineKind, settings: Mapping[str, Any]) -> str:
    from pytest_llmperf.config.embedded import EMBEDDED

    if kind.needs != "model":
        return kind.identity_without_model(settings) if kind.names_model else kind.title(settings)
    path = str(settings["model_path"])
    embedded = EMBEDDED.get(path)
    return embedded.file_name if embedded else PurePath(path).name


def with_settings(setup: EngineSetup, settings: Mapping[str, Any]) -> EngineSetup:
    """Return the same configuration with other values of its ``llm`` section; nothing is loaded.

    Raises:
        ConfigError: a value is wrong or does not fit the others, or there is no such model.
    """
    from pytest_llmperf.config import cell_settings

    try:
        llm = cell_settings.with_settings(setup.llm, settings)
    except (cell_settings.WrongSettingError, cell_settings.ImpossibleSettingsError) as error:
        lines = str(error).splitlines()
        raise ConfigError(Problem("a changed setting of llm", line) for line in lines) from None
    loaded = replace(setup.loaded, config=setup.loaded.config.model_copy(update={"llm": llm}))
    overrides = (f"llm.{key}={json.dumps(value)}" for key, value in settings.items())
    return set_up_engine(
        loaded, setup.project, setup.spec.import_paths, (*setup.overrides, *overrides)
    )


def _check_kind(llm: LlmConfig) -> None:
    """Check that an engine kind from another package can be measured, before it is started.

    Its functions are called, so that they fail here.
    """
    if llm.engine in OWN:
        return
    replication_unit(llm.kind)
    if llm.kind.needs != "model":
        llm.kind.identity_without_model(llm.resolved())
    _ = llm.kind.backend_name


def _check_extra(llm: LlmConfig, provenance: Mapping[str, str]) -> None:
    if refused := llm.kind.refused(llm.extra):
        raise ConfigError(
            Problem(provenance.get(f"llm.extra.{name}", "configuration"), text, f"llm.extra.{name}")
            for name, text in refused.items()
        )
