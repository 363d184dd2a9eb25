"""Load patterns: when each request of a workload is sent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from pytest_llmperf.run import Run
from pytest_llmperf.stored_json import Stored
from pytest_llmperf.timeline import Timeline

_Request = TypeVar("_Request")

#: Sends the request of this number; yields the progress of its turns, and returns its timeline.
Send = Callable[[int, _Request], Generator[int, None, Timeline]]


@dataclass(frozen=True)
class LoadPattern(Stored):
    """How a workload's requests are sent.

    Attributes:
        arrivals: ``in_order``: one at a time, each due when the one before has ended.
    """

    arrivals: Literal["in_order"] = "in_order"

    def identity(self) -> dict[str, Any]:
        """Return what defines the pattern, as plain JSON types."""
        return asdict(self)

    def drive(
        self, requests: Sequence[_Request], send: Send[_Request], is_void: Callable[[], bool]
    ) -> Generator[int, None, Run]:
        """Send the requests; yield the progress of their turns, and return the run.

        ``is_void``: asked after each request whether the rest would be in vain.
        """
        timelines: list[Timeline] = []
        for number, request in enumerate(requests):
            timelines.append((yield from send(number, request)))
            if is_void():
                break
        return Run.in_order(timelines)


#: The pattern of every recorded test: its body waits for each answer.
IN_ORDER = LoadPattern()
