"""The timeline of one generation: when each output token id arrived, on one monotonic clock."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

#: Allowed excess of a request's duration on the engine's clock over the caller's.
_CLOCKS_DIFFER_S, _CLOCKS_DIFFER_SHARE = 0.01, 0.01


@dataclass(frozen=True)
class Timeline:
    """Timeline of a generation: its start and the arrival of every output token.

    All times are seconds on the monotonic clock of the process that ran the
    engine; only differences are meaningful.

    Attributes:
        t_start: time just before the prompt was tokenized.
        token_times: arrival of each output token, in order; length n. Where ``tokens`` is given,
            arrival of each chunk of output instead.
        prompt_tokens: length of the prompt in tokens, or None if unknown.
        prompt_tokens_evaluated: number of them that the engine evaluated (fewer than
            ``prompt_tokens`` when a cache served the rest), or None if unknown.
        t_prefill_start: time just before the first prompt batch was submitted, or None.
        t_prefill_end: time after the device finished the last prompt batch, or None.
        pauses: start and end of each pause between two turns, in order: the engine was idle
            while another process had its turn.
        tokens: number of output tokens of an answer that came in chunks, each of which may hold
            several tokens or a part of a token; None: each token came by itself.
        t_first_answer: arrival of the first token of the answer, after any reasoning; None if
            the engine does not tell reasoning and answer apart.
        prompt_tokens_cached: number of the prompt's tokens that a server took from its cache, as
            it reports, even if the cache may be used; None if it does not report that.
    """

    t_start: float
    token_times: tuple[float, ...]
    prompt_tokens: int | None = None
    prompt_tokens_evaluated: int | None = None
    t_prefill_start: float | None = None
    t_prefill_end: float | None = None
    pauses: tuple[tuple[float, float], ...] = ()
    tokens: int | None = None
    t_first_answer: float | None = None
    prompt_tokens_cached: int | None = None

    @property
    def output_tokens(self) -> int:
        """Number of output tokens."""
        return len(self.token_times) if self.tokens is None else self.tokens

    @property
    def cached_share_unknown(self) -> bool:
        """Whether the prompt's length is known, but not how much of it came from a cache."""
        parts = (self.prompt_tokens_evaluated, self.prompt_tokens_cached)
        return self.prompt_tokens is not None and parts == (None, None)

    def gaps(self) -> tuple[float, ...]:
        """Return inter-token (or inter-chunk) latencies in seconds, length n - 1."""
        return tuple(b - a for a, b in pairwise(self.token_times))

    def without_pauses(self) -> Timeline:
        """Return the timeline of the engine's own turns: later times are reduced by the pauses."""
        if not self.pauses:
            return self
        begins = [begin for begin, _ in self.pauses]
        paused = [0.0, *accumulate(end - begin for begin, end in self.pauses)]

        def moved(time: float) -> float:
            return time - paused[bisect_left(begins, time)]

        def moved_if_known(time: float | None) -> float | None:
            return None if time is None else moved(time)

        return replace(
            self,
            t_start=moved(self.t_start),
            token_times=tuple(map(moved, self.token_times)),
            t_prefill_start=moved_if_known(self.t_prefill_start),
            t_prefill_end=moved_if_known(self.t_prefill_end),
            pauses=(),
            t_first_answer=moved_if_known(self.t_first_answer),
        )

    def decode_turns(self) -> tuple[float, ...]:
        """Return seconds per decode step in each turn after the first token, in order."""
        times, last = self.without_pauses().token_times, len(self.token_times) - 1
        before = (bisect_right(self.token_times, begin) - 1 for begin, _ in self.pauses)
        edges = sorted({0, last, *(token for token in before if token > 0)}) if last > 0 else []
        return tuple((times[b] - times[a]) / (b - a) for a, b in pairwise(edges))

    def clock_error(self, longest: float) -> str | None:
        """Return a description of a time that no working clock can have read, or None.

        Args:
            longest: seconds that the request took on the caller's clock, the upper bound.
        """
        prefill = [t for t in (self.t_prefill_start, self.t_prefill_end) if t is not None]
        paused = [t for pause in self.pauses for t in pause]
        answer = [] if self.t_first_answer is None else [self.t_first_answer]
        read = (self.t_start, *prefill, *self.token_times, *paused, *answer)
        if not all(map(_is_reading, read)):
            return "a clock reading is not a finite number"
        if any(after < before for before, after in pairwise(paused)):
            return "a pause ended before it began"
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
            "pauses": [list(pause) for pause in self.pauses],
            "tokens": self.tokens,
            "t_first_answer": self.t_first_answer,
            "prompt_tokens_cached": self.prompt_tokens_cached,
        }

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Timeline:
        """Rebuild a timeline from ``to_wire``'s output."""
        times, pauses = tuple(data["token_times"]), tuple(map(tuple, data["pauses"]))
        return cls(**{**data, "token_times": times, "pauses": pauses})


def _is_reading(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
