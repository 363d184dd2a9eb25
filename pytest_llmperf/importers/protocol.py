"""The interface of importers: runs with their metrics, and what became of each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class LayoutError(Exception):
    """A result file that can't be imported.

    Args:
        problem: what is wrong, without the file's name.
        fix: what to do about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@dataclass(frozen=True)
class FieldUse:
    """What became of a field of a result file.

    Attributes:
        field: its name in the file; several similar fields may be listed together.
        metric: our metric that it became; None if it was left out.
        why: how it was converted, or why it was left out.
    """

    field: str
    metric: str | None
    why: str


@dataclass(frozen=True)
class CommitInfo:
    """The commit of the measured project, as the file has it."""

    commit: str
    dirty: bool = False
    branch: str | None = None


@dataclass(frozen=True)
class ToolIdentity:
    """Machine, model and software that a run was measured with; None if unknown.

    Attributes:
        version: the tool's version.
        engine, engine_version: the program that generated the tokens.
        model: its name; the last part of a path.
        machine: facts about the machine; empty if the file has none.
        commit: the commit of the measured project.
        python: the version of Python that measured.
    """

    version: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    model: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    commit: CommitInfo | None = None
    python: str | None = None


@dataclass(frozen=True)
class ImportedRun:
    """One run of a tool with one workload and one set of settings: one sample of each metric.

    Attributes:
        test: readable name of the measurement, without the tool: ``tg128``.
        workload: everything that defines the work, plain JSON; runs of other work are never
            compared with it.
        summary: the work in words.
        metrics: values in base units; several are repetitions within the run.
        identity: the machine, model and software it was measured with.
        recorded: time of the run, UTC, in the format of records; None if the file does not say.
        settings: engine settings; runs of a matrix differ by them.
        invalid: why it may not be used for verdicts; empty if it may.
        digest: SHA-256 of the run as the file has it.
    """

    test: str
    workload: Mapping[str, Any]
    summary: str
    metrics: Mapping[str, Sequence[float]]
    identity: ToolIdentity
    recorded: str | None
    digest: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    invalid: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToolResults:
    """The runs of a file, what became of its fields, and notes for the user."""

    runs: tuple[ImportedRun, ...]
    fields: tuple[FieldUse, ...]
    notes: tuple[str, ...] = ()


class Importer(Protocol):
    """Reads the result files of one tool."""

    #: The tool's name, which the ids of its tests start with.
    tool: str
    #: The command or option that writes such a file.
    written_by: str
    #: Description of what such a file is recognised by.
    signs: str

    def recognises(self, documents: Sequence[Any]) -> bool:
        """Whether the JSON documents of a file (one, or one per line) are from this tool."""

    def read(self, documents: Sequence[Any]) -> ToolResults:
        """Return the runs of a file of this tool.

        Raises:
            LayoutError: it has another layout or an impossible value.
        """
