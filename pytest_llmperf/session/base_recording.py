"""Recording the base side's tests in another tree: the tree, the request, the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_llmperf.atomic_write import atomic_write
from pytest_llmperf.engine.launch import LaunchSpec
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.stored_json import dump, read

if TYPE_CHECKING:
    from pytest_llmperf.config.llm_section import LlmConfig
    from pytest_llmperf.packages.environment import Environment


#: The plugin's package, which measures both sides and so is never taken from a tree.
PLUGIN_PACKAGE = "pytest_llmperf"


@dataclass(frozen=True)
class OtherTree:
    """Another tree to record tests in, and how it differs from this one.

    Attributes:
        title: its name in messages.
        project: its root folder.
        environment: the Python environment of its processes.
        roots: folders its modules are imported from first.
        top_here, top: top folders of this work tree and of the other; the same if only the
            configuration differs.
        scratch: a folder for temporary files; None takes the system's.
        config_file: its configuration file; None takes the counterpart of this session's.
    """

    title: str
    project: Path
    environment: Environment
    roots: tuple[str, ...]
    top_here: Path
    top: Path
    scratch: Path | None = None
    config_file: Path | None = None

    def moved(self, entry: str) -> str:
        """Return the counterpart of a path in this work tree; any other path unchanged."""
        path = Path(entry)
        if not entry or not path.is_absolute() or not path.is_relative_to(self.top_here):
            return entry
        return str(self.top / path.relative_to(self.top_here))


class RecordElsewhere(Protocol):
    """Runs test bodies in another tree."""

    def __call__(self, tree: OtherTree, wanted: Sequence[str]) -> BaseRecording:
        """Run the bodies of the ``wanted`` tests once in that tree and return their recordings.

        Raises:
            SideError: they could not be run.
        """
        ...


@dataclass(frozen=True)
class RecordingRequest:
    """Instructions for the session in the other tree.

    Attributes:
        wanted: node ids of the tests to record, if they exist in that tree.
        modules: top-level modules of the project whose origin to report.
        outcome: the file to write.
    """

    wanted: tuple[str, ...]
    modules: tuple[str, ...]
    outcome: str

    def write(self, path: Path) -> None:
        """Write the request."""
        atomic_write(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> RecordingRequest:
        """Read a request; only this plugin writes them."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(data["wanted"]), tuple(data["modules"]), data["outcome"])


@dataclass(frozen=True)
class BaseRecording:
    """Result of the session in the other tree.

    Attributes:
        spec: how an engine process is started in that tree; None if it has no wanted test.
        llm: the engine settings of its configuration, as ``LlmConfig`` writes them.
        model: the model's SHA-256, or its name where it is no file.
        engine: the engine and its version; empty if none was ever started.
        layers: how many layers are on a GPU, such as ``12/31``; empty if not reported.
        workloads: what each wanted test asked of the engine, by node id.
        problems: why a wanted test that exists has no workload, by node id.
        collected: node ids of all perf tests in that tree.
        broken: files, classes and tests that could not be collected or set up, and why.
        origins: the file of each module of the project that was imported.
        python: the version of its interpreter.
        path: its import path.
        config_file: the configuration file it read; empty without one.
    """

    spec: LaunchSpec | None = None
    llm: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    engine: str = ""
    layers: str = ""
    workloads: dict[str, Workload] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    collected: tuple[str, ...] = ()
    broken: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    python: str = ""
    path: tuple[str, ...] = ()
    config_file: str = ""

    def settings(self) -> LlmConfig:
        """Return the engine settings of that tree's configuration."""
        from pytest_llmperf.config.llm_section import read_llm

        return read_llm(self.llm)

    def write(self, path: Path) -> None:
        """Write the outcome atomically."""
        data = {
            **asdict(self),
            "workloads": {nodeid: dump(work) for nodeid, work in self.workloads.items()},
        }
        atomic_write(path, json.dumps(data))

    @classmethod
    def read(cls, path: Path) -> BaseRecording:
        """Read an outcome.

        Raises:
            OSError: the file can't be read.
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        spec = data["spec"]
        if spec is not None:
            paths = tuple(spec["import_paths"])
            spec = LaunchSpec(**{**spec, "import_paths": paths, "plant": None})
        return cls(
            **{
                **data,
                "spec": spec,
                "workloads": {n: read(Workload, work) for n, work in data["workloads"].items()},
                "collected": tuple(data["collected"]),
                "path": tuple(data["path"]),
            }
        )
