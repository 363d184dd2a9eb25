"""The timeline of one generation: when each output token id arrived, on one monotonic clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

#: Allowed excess of a request's duration on the engine's clock over the caller's.
_CLOCKS_DIFFER_S, _CLOCKS_DIFFER_SHARE = 0.01, 0.01


@dataclass(frozen=True)
class Timeline:
    """Timeline of a generation: its start and the arrival of every output token id.

    All times are seconds on the monotonic clock of the process that ran the
    engine; only differences are meaningful.

    Attributes:
        t_start: just before the prompt was tokenized.
        token_times: arrival of each output token id, in order; length n.
        prompt_tokens: length of the prompt in tokens, or None if unknown.
        prompt_tokens_evaluated: number of them that the engine evaluated (fewer than
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

    def flaw(self, longest: float) -> str | None:
        """Describe a time that no working clock can have read, or None.

        Args:
            longest: seconds that the whole request took on the caller's clock.
        """
        prefill = [t for t in (self.t_prefill_start, self.t_prefill_end) if t is not None]
        if not all(map(_is_reading, (self.t_start, *prefill, *self.token_times))):
            return "a reading is no finite number"
        if not self.token_times:
            return None
        for number, (before, after) in enumerate(pairwise((self.t_start, *self.token_times)), 1):
            if after < before:
                what = "the request began" if number == 1 else f"token {number - 1}"
                return f"token {number} came {before - after:.3g} s before {what}"
        if self.token_times[0] == self.t_start:
            return "no time passed before token 1"
        whole = self.token_times[-1] - self.t_start
        if whole > longest * (1 + _CLOCKS_DIFFER_SHARE) + _CLOCKS_DIFFER_S:
            return f"{whole:.3g} s passed on it, and the request took {longest:.3g} s"
        if any(b < a for a, b in pairwise((self.t_start, *prefill, self.token_times[0]))):
            return "prefill did not lie before the first token"
        return None

    def to_wire(self) -> dict[str, Any]:
        """Convert the timeline to plain JSON types."""
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


def _is_reading(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
