"""Causes of a slow run, their evidence, and their remedies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmperf.diagnosis.situation import Situation


@dataclass(frozen=True)
class Remedy:
    """The exact change that removes a cause.

    Attributes:
        change: as it is typed or done: ``n_gpu_layers: -1``, a command line, ``close
            process 4242 (train)``.
        settings: the same as keys of the ``llm`` section, if it can be tried by measuring.
        hint: further advice in one sentence; may be empty.
        is_command: ``change`` is a command line, to be copied whole.
    """

    change: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    is_command: bool = False

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any], hint: str = "") -> Remedy:
        """Build the remedy that sets keys of the ``llm`` section."""
        return cls(", ".join(f"{key}: {_yaml(settings[key])}" for key in settings), settings, hint)


@dataclass(frozen=True)
class CauseEvidence:
    """Evidence of a cause in one situation, with the remedy.

    Attributes:
        text: the observation, with numbers, in one sentence.
        remedy: the change that removes it.
        slower: estimate of how many times slower the run is; orders findings until they
            are measured, and is never shown.
        certain: it is wrong at any cost. Otherwise its remedy is worth trying, and it is a
            finding only if measuring shows a gain.
        saves: computed saving of the remedy besides time: ``1.1 GiB of memory``; if not
            empty, it is a finding of the doctor even if nothing gets faster.
    """

    text: str
    remedy: Remedy
    slower: float
    certain: bool = True
    saves: str = ""


@dataclass(frozen=True)
class Cause:
    """One cause of a slow run.

    Attributes:
        name: identifier in files and docs.
        title: short headline for readers.
        theme: GPU, CPU, settings, memory, server or machine.
        look: returns the evidence for it, or None if there is none.
    """

    name: str
    title: str
    theme: str
    look: Callable[[Situation], CauseEvidence | None]


@dataclass(frozen=True)
class FoundCause:
    """A cause with its evidence in a situation."""

    cause: Cause
    evidence: CauseEvidence


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
