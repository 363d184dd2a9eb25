"""A planted slowdown: a real delay in the token loop, to test whether a gate catches it."""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from pytest_llmperf.engine.base import Pause

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Plant:
    """Size, place and frequency of a planted slowdown.

    Attributes:
        slowdown: the wait after every decode step, as a share of that step's time
            (0.05 = decode 5% slower).
        share: probability that a request is slowed at all; 1.0 = every request.
        seed: of the random generator that chooses requests. It restarts in every process:
            processes that should choose differently need different seeds.
        part: what is slowed; with ``prompt`` the time until the prompt is read, where the engine
            knows it.
        every: wait only after every so many decode steps, for all of them at once.
        buffer: bytes copied after every ``every`` decode steps, as by an application that tidies
            up. If another process has the next turn, the copy is postponed to the end of this one:
            the other side then pays for it, with what it loses of a shared cache.

    Raises:
        ValueError: a negative or infinite slowdown, a share outside 0 to 1, or a negative buffer.
    """

    slowdown: float
    share: float = 1.0
    seed: int = 0
    part: Literal["decode", "prompt"] = "decode"
    every: int = 1
    buffer: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.slowdown < float("inf"):
            raise ValueError(f"planted slowdown: {self.slowdown!r}, expected a number from 0")
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"planted share: {self.share!r}, expected a number from 0 to 1")
        if self.buffer < 0:
            raise ValueError(f"planted buffer: {self.buffer!r}, expected a number from 0")

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Plant:
        """Rebuild a plant from ``to_wire``'s output."""
        return cls(**data)


class Delay:
    """Applies a plant in an engine's token loop.

    An engine that works ahead while the delay waits (an application with a queue) absorbs part
    of it. Pauses in which another process has its turn are not slowed.

    Args:
        plant: what to plant.
        clock: seconds, monotonic.
    """

    def __init__(self, plant: Plant, clock: Callable[[], float] = time.perf_counter) -> None:
        self._plant = plant
        self._clock = clock
        self._random = random.Random(plant.seed)
        #: Seconds paused since the last step, and number of steps so far.
        self._paused, self._steps = 0.0, 0
        self._buffer = _Buffer(plant.buffer) if plant.buffer else None

    def around(self, pause: Pause) -> Pause:
        """Wrap ``pause`` so that its time does not count as part of a step."""

        def wait(tokens: int) -> None:
            began = self._clock()
            pause(tokens)
            self._paused += self._clock() - began

        return wait

    def at_end_of_turn(self) -> None:
        """Copy the buffer, if there is one, now that another process has its turn."""
        if self._buffer is not None:
            self._buffer.walk()

    def slow_prompt(self, began: float) -> None:
        """Wait after the prompt was read since ``began`` (on this clock), if it is to be slowed."""
        if self._plant.part == "prompt":
            self._wait(self._plant.slowdown * (self._clock() - began - self._paused))
        self._paused = 0.0

    def _wait(self, seconds: float) -> None:
        # Spins: a sleep ends tens of microseconds late, much of 5% of a fast step.
        until = self._clock() + seconds
        while self._clock() < until:
            pass

    def slowed(
        self, step: Callable[[], _Result], *, in_turns: bool = False
    ) -> Callable[[], _Result]:
        """Return ``step``, which makes a request's next token, with the wait after it.

        Unchanged if this request is not to be slowed; call it once per request. ``in_turns``:
        the request pauses while another process has its turn.
        """
        plant, clock = self._plant, self._clock
        if self._random.random() >= plant.share or plant.part == "prompt":
            return step
        last: float | None = None

        def slow() -> _Result:
            nonlocal last
            result = step()
            if last is not None:
                self._steps += 1
                if self._steps % plant.every == 0:
                    took = clock() - last - self._paused
                    self._wait(plant.slowdown * plant.every * took)
                    if self._buffer is not None and not in_turns:
                        self._buffer.walk()
            last, self._paused = clock(), 0.0
            return result

        return slow

    def spaced(self, items: Iterator[_Result], *, in_turns: bool = False) -> Iterator[_Result]:
        """Yield one request's ``items``, with the wait before each but the first."""
        step = self.slowed(items.__next__, in_turns=in_turns)
        while True:
            try:
                item = step()
            except StopIteration:
                return
            yield item


class _Buffer:
    """Memory whose first half is copied to the second, which displaces others' data in a cache."""

    #: Larger copies may bypass the caches.
    _PIECE = 1 << 18

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._memory = ctypes.create_string_buffer(size)
        # Pages that were never written are all the same physical page.
        ctypes.memset(self._memory, 1, size)

    def walk(self) -> None:
        """Copy the first half to the second."""
        source = ctypes.addressof(self._memory)
        for start in range(0, self._half, self._PIECE):
            count = min(self._PIECE, self._half - start)
            ctypes.memmove(source + self._half + start, source + start, count)
