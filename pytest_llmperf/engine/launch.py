"""The specification of an engine's process: interpreter, settings, environment, timeouts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

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
        return engine_kind(self.engine)

    @property
    def name(self) -> str:
        """The engine's name in messages; an application's is its target."""
        return self.kind.title(self.config)

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
