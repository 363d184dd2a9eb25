"""Load patterns: when each request of a workload is sent."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.schedule import Schedule, ScheduleError, closed, constant, poisson
from pytest_llmperf.fitness_checks import Severity
from pytest_llmperf.run import Run
from pytest_llmperf.stored_json import LEFT_OUT, Stored
from pytest_llmperf.text import count
from pytest_llmperf.timeline import Timeline
from pytest_llmperf.units import format_duration

_Request = TypeVar("_Request")
Arrivals = Literal["in_order", "closed", "constant", "poisson", "trace"]

#: Sends a numbered request; yields the progress after each turn and returns its timeline.
Send = Callable[[int, _Request], Generator[int, None, Timeline]]

#: Share of a load that is sent once beforehand as a warm-up, and its minimum number of requests.
_WARMUP_SHARE, _MIN_WARMUP = 0.25, 4
#: Share of a load's requests that may fail unless the test says otherwise.
MAX_ERROR_RATE = 0.01


@dataclass(frozen=True)
class TracedRequest(Stored):
    """One request of a trace.

    Attributes:
        at: when it is due, in seconds after the first.
        prompt, messages, max_tokens: the request itself; without prompt and messages, the next
            recorded request is sent.
    """

    at: float
    prompt: str | tuple[int, ...] | None = field(default=None, metadata=LEFT_OUT)
    messages: tuple[dict[str, Any], ...] | None = field(default=None, metadata=LEFT_OUT)
    max_tokens: int | None = field(default=None, metadata=LEFT_OUT)

    @classmethod
    def of(cls, at: float, own: ServerRequest | None) -> TracedRequest:
        """Return an entry that is due ``at`` seconds, with its own request if it has one."""
        if own is None:
            return cls(at)
        messages = None if own.messages is None else tuple(map(dict, own.messages))
        return cls(at, own.prompt, messages, own.max_tokens)

    @property
    def request(self) -> ServerRequest | None:
        """The request, or None if the trace states only its time."""
        if self.prompt is None and self.messages is None:
            return None
        return ServerRequest(self.prompt, self.messages, self.max_tokens)


@dataclass(frozen=True)
class LoadPattern(Stored):
    """How a workload's requests are sent.

    Attributes:
        arrivals: ``in_order``: each request is sent once, as soon as the previous one has ended.
            Every other pattern is a load, which sends the recorded requests again and again.
            ``closed``: with a fixed number in flight. ``constant``, ``poisson``: at a fixed rate.
            ``trace``: each at its own time.
        concurrency: number of requests in flight, if closed.
        rate: requests per second, if constant or Poisson.
        requests: number of requests, or None.
        duration: seconds during which requests are sent, or None.
        trace: the requests of a trace.
        limits: largest latencies of a good answer, seconds, by name; they decide the goodput.
        max_error_rate: share of the requests that may fail.
        over_saturated: severity of the finding that the server can't keep up.

    Raises:
        ValueError: such a load can't be sent.
    """

    arrivals: Arrivals = "in_order"
    concurrency: int | None = field(default=None, metadata=LEFT_OUT)
    rate: float | None = field(default=None, metadata=LEFT_OUT)
    requests: int | None = field(default=None, metadata=LEFT_OUT)
    duration: float | None = field(default=None, metadata=LEFT_OUT)
    trace: tuple[TracedRequest, ...] = field(default=(), metadata=LEFT_OUT)
    limits: dict[str, float] = field(default_factory=dict, metadata=LEFT_OUT)
    max_error_rate: float = field(default=MAX_ERROR_RATE, metadata=LEFT_OUT)
    over_saturated: Severity = field(default="invalid", metadata=LEFT_OUT)

    def __post_init__(self) -> None:
        if not self.is_load:
            return
        needed = {"closed": self.concurrency, "trace": self.trace or None}
        if needed.get(self.arrivals, self.rate) is None:
            raise ValueError(f"{self.arrivals} arrivals without their concurrency, rate or trace")
        try:
            self.schedule(0)
        except ScheduleError as error:
            raise ValueError(str(error)) from None
        if self.concurrency and self.requests and self.requests < self.concurrency:
            raise ValueError(
                f"it has requests={self.requests}, fewer than the {self.concurrency} in flight"
            )

    @property
    def is_load(self) -> bool:
        """Whether several requests may be in flight."""
        return self.arrivals != "in_order"

    @property
    def max_requests(self) -> int | None:
        """Maximum number of requests of a load; None if only its duration ends it."""
        return len(self.trace) or self.requests

    def identity(self) -> dict[str, Any]:
        """Return what defines the pattern, as plain JSON types.

        ``max_error_rate`` and ``over_saturated`` are left out: they decide only whether a load
        is valid.
        """
        given = ((f.name, getattr(self, f.name)) for f in fields(self))
        parts = {name: value for name, value in given if value not in (None, (), {})}
        del parts["max_error_rate"], parts["over_saturated"]
        if self.trace:
            parts["trace"] = self.schedule(0).hash
        return parts

    def schedule(self, seed: int) -> Schedule:
        """Return the schedule of a load; random times are drawn from ``seed``.

        Raises:
            ScheduleError: the pattern's numbers can't be used.
        """
        requests, duration = self.requests, self.duration
        if self.arrivals == "closed":
            assert self.concurrency is not None
            return closed(self.concurrency, requests=requests, duration=duration)
        if self.arrivals == "trace":
            due = tuple(entry.at for entry in self.trace)
            traced = tuple(entry.request for entry in self.trace)
            return Schedule("trace", due, requests=len(due), traced=traced)
        assert self.rate is not None
        if self.arrivals == "constant":
            return constant(self.rate, requests=requests, duration=duration)
        return poisson(self.rate, seed=seed, requests=requests, duration=duration)

    def warmup(self) -> LoadPattern:
        """Return the shorter load that is sent once beforehand to warm up the server."""
        if self.arrivals == "trace":
            return replace(self, trace=self.trace[: self._warmup_requests(len(self.trace))])
        if self.requests is not None:
            minimum = max(_MIN_WARMUP, self.concurrency or 0)
            return replace(self, requests=max(self._warmup_requests(self.requests), minimum))
        assert self.duration is not None
        return replace(self, duration=self.duration * _WARMUP_SHARE)

    def expected_seconds(self, request: float) -> float:
        """Return the minimum duration of a load, seconds.

        Args:
            request: seconds of one request by itself; concurrent requests may take longer.
        """
        if self.arrivals == "trace":
            return self.trace[-1].at + request
        if self.duration is not None:
            return self.duration + request
        assert self.requests is not None
        if self.concurrency is not None:
            return self.requests * request / self.concurrency
        assert self.rate is not None
        return self.requests / self.rate + request

    def __str__(self) -> str:
        """Describe the load, for example ``8 in flight, 64 requests``."""
        if self.arrivals == "trace":
            last = format_duration(self.trace[-1].at)
            return f"{count(len(self.trace), 'request')} of a trace over {last}"
        parts = [
            f"{self.concurrency} in flight"
            if self.arrivals == "closed"
            else f"{self.rate:g} requests/s ({self.arrivals})"
        ]
        if self.requests is not None:
            parts.append(count(self.requests, "request"))
        if self.duration is not None:
            parts.append(format_duration(self.duration))
        return ", ".join(parts)

    def drive(
        self, requests: Sequence[_Request], send: Send[_Request], is_void: Callable[[], bool]
    ) -> Generator[int, None, Run]:
        """Send the requests in order; yield the progress after each turn, and return the run.

        ``is_void``: called after each request; True ends the run, since the rest would be in vain.
        """
        timelines: list[Timeline] = []
        for number, request in enumerate(requests):
            timelines.append((yield from send(number, request)))
            if is_void():
                break
        return Run.in_order(timelines)

    @staticmethod
    def _warmup_requests(number: int) -> int:
        return min(max(round(number * _WARMUP_SHARE), _MIN_WARMUP), number)


#: The pattern of every test without the marker ``load``: its body waits for each answer.
IN_ORDER = LoadPattern()


def load_seed(seed: int, place: int, iteration: int) -> int:
    """Return the seed of a load: the same for both sides of a pair.

    Args:
        seed: the session's seed.
        place: number of the pair, or of the process if there are no pairs.
        iteration: number of the iteration in the process, from 0.
    """
    return random.Random(f"{seed}/{place}/{iteration}").getrandbits(32)
