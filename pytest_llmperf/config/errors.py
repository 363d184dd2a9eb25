"""Configuration errors: every problem, with its place, in one message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One problem and its place.

    Attributes:
        where: ``config.yaml:7``, ``environment LLMPERF_LLM__N_BATCH`` or
            ``--llmperf-set llm.n_batch``.
        text: what is wrong and what was expected.
        key: the dotted key, where ``where`` does not already name it.
        order: (layer, line), by which problems are sorted.
    """

    where: str
    text: str
    key: str = ""
    order: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.text) if part)


class ConfigError(Exception):
    """The configuration cannot be used; ``str()`` is the whole message, one problem per line.

    Attributes:
        problems: all of them, ordered by layer and line.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.order))
        super().__init__("\n".join(map(str, self.problems)))


class ModelError(ConfigError):
    """The model that ``model_path`` names cannot be used; ``str()`` is the whole message."""

    def __init__(self, model_path: str, text: str) -> None:
        super().__init__([Problem(f"model {model_path!r}", text)])
