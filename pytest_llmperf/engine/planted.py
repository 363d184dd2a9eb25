"""A planted slowdown: a real delay in the token loop, to test whether a gate catches it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Plant:
    """Size and frequency of a planted slowdown of decode.

    Attributes:
        slowdown: waited after every decode step, as a share of that step's time
            (0.05 = decode 5% slower).
        share: probability that a request is slowed at all; 1.0 = every request.
        seed: of the random generator that chooses requests. It restarts in every process:
            processes that should choose differently need different seeds.

    Raises:
        ValueError: a negative or infinite slowdown, or a share outside 0 to 1.
    """

    slowdown: float
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.slowdown < float("inf"):
            raise ValueError(f"planted slowdown: {self.slowdown!r}, expected a number from 0")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"planted share: {self.share!r}, expected a number from 0 to 1")

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Plant:
        """Rebuild a plant from ``to_wire``'s output."""
        return cls(**data)


class Delay:
    """Applies a plant in an engine's token loop.

    What comes before a request's first token is never slowed. An engine that works
    ahead while the delay waits (an application with a queue) absorbs part of it.

    Args:
        plant: what to plant.
        clock: seconds, monotonic.
    """

    def __init__(self, plant: Plant, clock: Callable[[], float] = time.perf_counter) -> None:
        self._plant = plant
        self._clock = clock
        self._random = random.Random(plant.seed)

    def slowed(self, step: Callable[[], _Result]) -> Callable[[], _Result]:
        """Return ``step`` (makes one request's next token) with the wait after it.

        Unchanged if this request is not to be slowed; call it once per request.
        """
        if self._random.random() >= self._plant.share:
            return step
        clock, slowdown = self._clock, self._plant.slowdown
        last: float | None = None

        def slow() -> _Result:
            nonlocal last
            result = step()
            now = clock()
            if last is not None:
                until = now + slowdown * (now - last)
                # Spins: a sleep ends tens of microseconds late, much of 5% of a fast step.
                while now < until:
                    now = clock()
            last = now
            return result

        return slow

    def spaced(self, items: Iterator[_Result]) -> Iterator[_Result]:
        """Yield one request's ``items``, with the wait before each but the first."""
        step = self.slowed(items.__next__)
        while True:
            try:
                item = step()
            except StopIteration:
                return
            yield item
