"""The timeline of one generation: when each output token id arrived, on one monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Timeline:
    """When a generation started and when every output token id arrived.

    All times are seconds on the monotonic clock of the process that ran the
    engine; only differences mean anything.

    Attributes:
        t_start: just before the prompt was tokenized.
        token_times: arrival of each output token id, in order; length n.
        prompt_tokens: length of the prompt in tokens, or None if the engine does not say.
        prompt_tokens_evaluated: how many of them the engine evaluated (fewer than
            ``prompt_tokens`` when a cache served the rest), or None if unknown.
        t_prefill_start: just before the first prompt batch was submitted, or None.
        t_prefill_end: after the device finished the last prompt batch, or None.
    """

    t_start: float
    token_times: tuple[float, ...]
    prompt_tokens: int | None = None
    prompt_tokens_evaluated: int | None = None
    t_prefill_start: float | None = None
    t_prefill_end: float | None = None

    @property
    def output_tokens(self) -> int:
        """Number of output tokens."""
        return len(self.token_times)

    def gaps(self) -> tuple[float, ...]:
        """Inter-token latencies in seconds; length n - 1."""
        return tuple(b - a for a, b in pairwise(self.token_times))

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "t_start": self.t_start,
            "token_times": list(self.token_times),
            "prompt_tokens": self.prompt_tokens,
            "prompt_tokens_evaluated": self.prompt_tokens_evaluated,
            "t_prefill_start": self.t_prefill_start,
            "t_prefill_end": self.t_prefill_end,
        }

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Timeline:
        """Rebuild a timeline from ``to_wire``'s output."""
        return cls(**{**data, "token_times": tuple(data["token_times"])})
