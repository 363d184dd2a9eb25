"""The specification of an engine's process: interpreter, settings, environment, timeouts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_llmperf.engine.errors import EngineLoadError
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.planted import Plant
from pytest_llmperf.engine_kinds import EngineKind, engine_kind


@dataclass(frozen=True)
class LaunchSpec:
    """Instructions for starting a worker.

    Attributes:
        engine: as ``llm.engine`` names it.
        config: the resolved ``llm`` section as plain JSON types.
        python: the interpreter of the environment that has the engine.
        cwd: the worker's working directory; None inherits.
        import_paths: put in front of the worker's ``sys.path``.
        env: variables set on top of the inherited environment.
        load_timeout: seconds until a load counts as hung.
        generation_timeout: seconds until a request counts as hung.
        plant: a slowdown planted in the worker's token loop, or None.
    """

    engine: str
    config: dict[str, Any]
    python: str = sys.executable
    cwd: str | None = None
    import_paths: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    load_timeout: float = 300.0
    generation_timeout: float = 120.0
    plant: Plant | None = None

    @property
    def kind(self) -> EngineKind:
        """The kind of engine to start.

        Raises:
            EngineKindError: no such kind is installed.
        """
        return engine_kind(self.engine).of_section(self.config)

    @property
    def name(self) -> str:
        """The engine's name in messages; an application's is its target."""
        return self.kind.title(self.config)

    def shares_process_with(self, other: LaunchSpec) -> bool:
        """Whether a process of one spec can take the other's settings without loading again."""
        ours, theirs = (replace(spec, config={}, plant=None) for spec in (self, other))
        return ours == theirs and self.process_settings == other.process_settings

    @property
    def process_settings(self) -> dict[str, Any]:
        """The settings that a process is started with and keeps."""
        return self.kind.load_settings(self.config)

    def read_info(self, result: dict[str, Any]) -> EngineInfo:
        """Return the loaded engine's facts about itself.

        Raises:
            EngineLoadError: it can't be read.
        """
        try:
            named: dict[str, Any] = {"engine": self.engine}
            if self.kind.needs != "model" and not self.kind.names_model:
                # Baselines are chosen by this name, which is known before an engine starts.
                named["model_name"] = self.kind.identity_without_model(self.config)
            return EngineInfo.from_wire({**result, **named})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineLoadError(
                f"the info() of {self.name} can't be read ({error}): it must return "
                "the fields of EngineInfo, engine_version at least, and model_name with a model"
            ) from error

    def load_command(self) -> dict[str, Any]:
        """Return the ``load`` command of the wire protocol, without its id."""
        kind = self.kind
        command: dict[str, Any] = {
            "op": "load",
            "engine": self.engine,
            "class": kind.engine,
            "package": kind.package,
            "glance": kind.takes_glance,
            "config": self.config,
        }
        if self.plant is not None:
            command["plant"] = self.plant.to_wire()
        return command
