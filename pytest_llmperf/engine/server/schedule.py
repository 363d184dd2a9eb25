"""Schedules: when each request of a load is due, drawn from a seed so that it is repeatable."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.server.answer import ServerRequest

Arrivals = Literal["constant", "poisson", "closed", "trace"]

_HASH_DIGITS = 16
#: Maximum number of requests: more would exhaust the client's memory, and take very long.
_MAX_REQUESTS = 200_000


class ScheduleError(EngineError):
    """A schedule that can't be used; str() is the complete message."""


@dataclass(frozen=True)
class Schedule:
    """When the requests of a load are sent.

    Open (``constant``, ``poisson``, ``trace``): each request is due at its time, whether or not
    others have ended. Closed: each is due as soon as one of the ``concurrency`` requests in flight
    has ended, so a slow server gets fewer requests.

    Attributes:
        arrivals: kind of the schedule.
        due: when each request is due, seconds from the load's start; empty if closed.
        rate: requested rate, requests per second; None if closed or from a trace.
        concurrency: number of requests in flight, if closed.
        requests: number of requests; None if a closed schedule lasts for ``duration``.
        duration: seconds during which requests are sent; None: until all are sent.
        seed: seed from which the times were drawn, or None.
        traced: the requests themselves, if the trace states them.
    """

    arrivals: Arrivals
    due: tuple[float, ...] = ()
    rate: float | None = None
    concurrency: int | None = None
    requests: int | None = None
    duration: float | None = None
    seed: int | None = None
    traced: tuple[ServerRequest | None, ...] = field(default=(), repr=False)

    @property
    def is_open(self) -> bool:
        """Whether requests are sent at fixed times, whether or not others have ended."""
        return self.arrivals != "closed"

    def longest(self, request: float) -> float:
        """Return the maximum seconds of the load if each request takes at most ``request``."""
        if self.is_open:
            return (self.due[-1] if self.due else 0.0) + request
        if self.duration is not None:
            return self.duration + request
        assert self.requests is not None
        assert self.concurrency is not None
        return -(-self.requests // self.concurrency) * request

    def part(self, index: int, count: int) -> Schedule:
        """Return one sender's part: requests ``index``, ``index + count`` and so on.

        Args:
            index: number of the sender, from 0.
            count: number of senders; for a closed schedule, at most its concurrency.
        """
        if self.is_open:
            return replace(self, due=self.due[index::count])
        return replace(
            self,
            concurrency=_share(self.concurrency, index, count),
            requests=_share(self.requests, index, count),
        )

    @property
    def hash(self) -> str:
        """Hexadecimal digest; only loads with equal digests are comparable."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]

    def to_wire(self) -> dict[str, Any]:
        """Convert the schedule to plain JSON types."""
        return asdict(self)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Schedule:
        """Rebuild a schedule from ``to_wire``'s output after a trip through JSON."""
        traced = tuple(own and ServerRequest.from_wire(own) for own in data["traced"])
        return cls(**{**data, "due": tuple(data["due"]), "traced": traced})


def constant(
    rate: float, *, requests: int | None = None, duration: float | None = None
) -> Schedule:
    """Return a schedule of requests at equal intervals, the first one at once.

    Raises:
        ScheduleError: an argument can't be used.
    """
    _check(rate, requests, duration)
    times = (number / rate for number in itertools.count())
    due = _limited(times, requests, duration)
    return Schedule("constant", due, rate, requests=requests, duration=duration)


def poisson(
    rate: float, *, seed: int, requests: int | None = None, duration: float | None = None
) -> Schedule:
    """Return a schedule of independent requests: exponential intervals of mean ``1 / rate``.

    The first request is due at once.

    Raises:
        ScheduleError: an argument can't be used.
    """
    _check(rate, requests, duration)
    draw = random.Random(seed)
    # random() gives the same numbers in every Python version; expovariate() might not.
    gaps = (-math.log(1.0 - draw.random()) / rate for _ in itertools.count())
    due = _limited(itertools.accumulate(gaps, initial=0.0), requests, duration)
    return Schedule("poisson", due, rate, requests=requests, duration=duration, seed=seed)


def closed(
    concurrency: int, *, requests: int | None = None, duration: float | None = None
) -> Schedule:
    """Return a schedule that keeps ``concurrency`` requests in flight.

    Raises:
        ScheduleError: an argument can't be used.
    """
    _check(1.0, requests, duration)
    if not _is_count(concurrency):
        raise ScheduleError(
            f"concurrency: expected a whole number of 1 or more, got {concurrency!r}"
        )
    return Schedule("closed", concurrency=concurrency, requests=requests, duration=duration)


def trace(path: Path) -> Schedule:
    """Read a schedule from a file with one JSON object per line.

    Each object has ``at``, seconds from the start (or ``timestamp``, milliseconds), and optionally
    the request itself: ``prompt`` or ``messages``, and ``max_tokens``.

    Raises:
        ScheduleError: the file can't be used; the message names the line.
    """
    entries = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ScheduleError(f"{path}: can't be read: {why}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entries.append(_traced(json.loads(line)))
            except json.JSONDecodeError as error:
                why = f"not JSON: {error.msg}, character {error.pos + 1}"
                raise ScheduleError(f"{path}: line {number}: {why}") from None
            except (ValueError, TypeError) as error:
                raise ScheduleError(f"{path}: line {number}: {error}") from None
    if not entries:
        raise ScheduleError(f"{path}: there is no request in it")
    # The sort is stable: simultaneous requests stay in the file's order.
    entries.sort(key=lambda entry: entry[0])
    first = entries[0][0]
    due = tuple(at - first for at, _ in entries)
    return Schedule("trace", due, requests=len(due), traced=tuple(own for _, own in entries))


def _traced(entry: Any) -> tuple[float, ServerRequest | None]:
    if not isinstance(entry, dict):
        raise ValueError("expected a JSON object")
    if "at" in entry and "timestamp" in entry:
        raise ValueError("it has both at (seconds) and timestamp (milliseconds); keep one of them")
    at = entry["timestamp"] / 1000 if "timestamp" in entry else entry.get("at")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < math.inf:
        raise ValueError(f"at: expected seconds from the start, got {at!r}")
    tokens = entry.get("max_tokens", entry.get("output_length"))
    if tokens is not None and not _is_count(tokens):
        raise ValueError(f"max_tokens: expected a whole number of 1 or more, got {tokens!r}")
    prompt, messages = entry.get("prompt"), entry.get("messages")
    if prompt is None and messages is None:
        if tokens is not None:
            raise ValueError("max_tokens belongs to a request; state its prompt or messages too")
        return float(at), None
    if prompt is not None and messages is not None:
        raise ValueError("it has both prompt and messages; keep one of them")
    if not isinstance(prompt, str | list | None):
        raise ValueError(f"prompt: expected a text or a list of token ids, got {prompt!r}")
    if not (messages is None or _is_chat(messages)):
        raise ValueError(f"messages: expected a list of objects, got {messages!r}")
    return float(at), ServerRequest(
        tuple(prompt) if isinstance(prompt, list) else prompt,
        tuple(messages) if messages is not None else None,
        tokens,
    )


def _limited(
    times: Iterator[float], requests: int | None, duration: float | None
) -> tuple[float, ...]:
    if duration is not None:
        times = itertools.takewhile(lambda at: at < duration, times)
    due = tuple(itertools.islice(times, requests if requests is not None else _MAX_REQUESTS + 1))
    if len(due) > _MAX_REQUESTS:
        raise ScheduleError(
            f"a load may have at most {_MAX_REQUESTS:,} requests, and this one has more"
        )
    return due


def _is_chat(messages: object) -> bool:
    return isinstance(messages, list) and all(isinstance(message, dict) for message in messages)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _share(total: int | None, index: int, count: int) -> int | None:
    """Return the share that one of ``count`` senders has of a total; the shares add up to it."""
    return None if total is None else len(range(index, total, count))


def _check(rate: float, requests: int | None, duration: float | None) -> None:
    if not 0 < rate < math.inf:
        raise ScheduleError(f"rate: expected requests per second above 0, got {rate!r}")
    if requests is None and duration is None:
        raise ScheduleError("a load needs an end: set requests or duration")
    if requests is not None and not (_is_count(requests) and requests <= _MAX_REQUESTS):
        raise ScheduleError(
            f"requests: expected a whole number from 1 to {_MAX_REQUESTS:,}, got {requests!r}"
        )
    if duration is not None and not 0 < duration < math.inf:
        raise ScheduleError(f"duration: expected seconds above 0, got {duration!r}")
