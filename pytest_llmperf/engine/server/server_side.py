"""A load as counted by the server itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from pytest_llmperf.engine.server.counters import ServerCounters
from pytest_llmperf.stored_json import Stored

#: Fields of ServerCounters that only grow while a server runs.
_TOTALS = ("preemptions", "prompt_tokens", "generated_tokens", "cache_hits", "cache_queries")


@dataclass(frozen=True)
class SeenLevel(Stored):
    """Level of a quantity over the readings within a load.

    Attributes:
        peak: the largest reading; between two readings it may have been higher.
        mean: mean of the readings.
    """

    peak: float
    mean: float


@dataclass(frozen=True)
class ServerSide(Stored):
    """A load by a server's own counters. None means unknown, never 0.

    Attributes:
        server: ``vLLM``, ``SGLang`` or ``llama.cpp``.
        readings: number of readings within the load.
        failed: number of further readings that failed.
        running, waiting: number of requests being computed, and in the queue.
        kv_use: share of its KV cache in use.
        waiting_share: share of the readings with a request in the queue.
        preemptions: requests that lost their place in the KV cache during the load.
        prompt_tokens, generated_tokens: counted during the load, whoever sent the requests.
        cache_hits, cache_queries: prompt tokens that a cache served during the load, and all
            prompt tokens.
        generated_before, generated_after: output tokens counted since the server started.
        went_back: whether a counter fell, because the server was restarted or several servers
            answer at this address. Counts during the load are unknown then.
    """

    server: str
    readings: int
    failed: int
    running: SeenLevel | None
    waiting: SeenLevel | None
    kv_use: SeenLevel | None
    waiting_share: float | None
    preemptions: int | None
    prompt_tokens: int | None
    generated_tokens: int | None
    cache_hits: int | None
    cache_queries: int | None
    generated_before: int | None = None
    generated_after: int | None = None
    went_back: bool = False

    @classmethod
    def of(
        cls,
        before: ServerCounters | None,
        during: Sequence[ServerCounters],
        after: ServerCounters | None,
        *,
        failed: int = 0,
    ) -> ServerSide | None:
        """Summarise readings; None without any.

        Args:
            before, after: the readings around the load; None if they failed.
            during: readings within it.
            failed: number of failed readings.
        """
        known = [reading for reading in (before, *during, after) if reading is not None]
        if not known:
            return None
        went_back = len({reading.server for reading in known}) > 1 or any(
            _falls([getattr(reading, name) for reading in known]) for name in _TOTALS
        )
        waiting = [reading.waiting for reading in during if reading.waiting is not None]
        counted = {name: None if went_back else _counted(before, after, name) for name in _TOTALS}
        return cls(
            server=known[0].server,
            readings=len(during),
            failed=failed,
            running=_level([reading.running for reading in during]),
            waiting=_level(waiting),
            kv_use=_level([reading.kv_use for reading in during]),
            waiting_share=fmean(count > 0 for count in waiting) if waiting else None,
            generated_before=None if before is None else before.generated_tokens,
            generated_after=None if after is None else after.generated_tokens,
            went_back=went_back,
            **counted,
        )


def _level(values: Sequence[float | None]) -> SeenLevel | None:
    known = [value for value in values if value is not None]
    return SeenLevel(float(max(known)), fmean(known)) if known else None


def _falls(readings: Sequence[int | None]) -> bool:
    known = [value for value in readings if value is not None]
    return any(later < earlier for earlier, later in pairwise(known))


def _counted(before: ServerCounters | None, after: ServerCounters | None, name: str) -> int | None:
    """Return by how much a counter grew; None if unknown.

    A counter that appears only during the load began at 0: SGLang publishes some only then.
    """
    if before is None or after is None:
        return None
    begin: int | None = getattr(before, name)
    end: int | None = getattr(after, name)
    if end is None or (begin is None and before.incomplete):
        return None
    return end - (begin or 0)
