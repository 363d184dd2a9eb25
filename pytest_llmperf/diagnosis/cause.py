"""What a rule is: a cause of a slow run, how it shows, and the exact change that mends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmperf.diagnosis.situation import Situation


@dataclass(frozen=True)
class Remedy:
    """The exact change.

    Attributes:
        change: as it is typed or done: ``n_gpu_layers: -1``, a command line, ``close
            process 4242 (train)``.
        settings: the same as keys of the ``llm`` section, where measuring can try it.
        hint: what else to know, in one sentence; may be empty.
        is_command: ``change`` is a command line, to be copied whole.
    """

    change: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    is_command: bool = False

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any], hint: str = "") -> Remedy:
        """The remedy that sets keys of the ``llm`` section."""
        return cls(", ".join(f"{key}: {_yaml(settings[key])}" for key in settings), settings, hint)


@dataclass(frozen=True)
class CauseEvidence:
    """How a cause shows here.

    Attributes:
        text: what was seen, with numbers, in one sentence.
        remedy: what mends it here.
        slower: an estimate of how many times slower the run is for it; orders findings
            until they are measured, and is shown nowhere.
        certain: it is wrong whatever it costs. Otherwise it is worth trying, and a
            finding only where measuring shows a gain.
    """

    text: str
    remedy: Remedy
    slower: float
    certain: bool = True


@dataclass(frozen=True)
class Cause:
    """One cause of a slow run.

    Attributes:
        name: what files and docs call it.
        title: what a reader is told first.
        theme: what it is about: GPU, CPU, settings, memory or machine.
        look: returns the evidence for it, or None where it is not the case.
    """

    name: str
    title: str
    theme: str
    look: Callable[[Situation], CauseEvidence | None]


@dataclass(frozen=True)
class Found:
    """A cause that shows in a situation."""

    cause: Cause
    evidence: CauseEvidence


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
