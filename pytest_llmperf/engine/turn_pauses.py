"""Pauses of a generation in the engine's process, between its turns."""

from __future__ import annotations

from collections.abc import Callable

from pytest_llmperf.engine.own_time import OWN_TIME


class TurnPauses:
    """Ends a turn after each batch of the prompt, the first token, and every ``tokens`` tokens.

    Args:
        tokens: output tokens of a turn after the first one.
        wait: called with the number of output tokens so far at the end of a turn; returns when
            the next one begins.

    Attributes:
        taken: start and end of each pause, seconds on the engine's clock.
    """

    def __init__(self, tokens: int, wait: Callable[[int], None]) -> None:
        self._tokens = tokens
        self._wait = wait
        self.taken: list[tuple[float, float]] = []

    def after(self, tokens: int) -> None:
        """Wait for the next turn if this one ends with so many output tokens."""
        if tokens > 1 and (tokens - 1) % self._tokens:
            return
        began = OWN_TIME.now()
        self._wait(tokens)
        self.taken.append((began, OWN_TIME.now()))
