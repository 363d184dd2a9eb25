"""The part of a load that one process sends."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pytest_llmperf.engine.server.answer import ServerAnswer, ServerRequest
from pytest_llmperf.engine.server.client import ServerClient
from pytest_llmperf.engine.server.generator import LoadGenerator
from pytest_llmperf.engine.server.load_result import LoadResult
from pytest_llmperf.engine.server.prompts import CacheUse, with_cache_use
from pytest_llmperf.engine.server.schedule import Schedule


class SentPart(NamedTuple):
    """Result of a part of a load.

    Attributes:
        result: result of its requests.
        answered_as: models and builds of the servers that answered.
    """

    result: LoadResult
    answered_as: frozenset[tuple[str | None, str | None]]


@dataclass(frozen=True)
class LoadPart:
    """Every ``count``-th request of a load, sent by one process.

    Attributes:
        requests: requests of the whole load, used in turn.
        schedule: schedule of the whole load.
        cache: whether the server may take prompts from its cache.
        index: number of this process, from 0.
        count: number of processes.
    """

    requests: tuple[ServerRequest, ...]
    schedule: Schedule
    cache: CacheUse
    index: int = 0
    count: int = 1

    async def send(
        self, client: ServerClient, clock: Callable[[], float], begin: float | None = None
    ) -> SentPart:
        """Send the part; ``begin``: time on the clock at which the load begins (None: now)."""
        draw = random.Random()
        answered_as: set[tuple[str | None, str | None]] = set()

        async def ask(request: ServerRequest) -> ServerAnswer:
            answer = await client.ask(with_cache_use(request, self.cache, draw))
            answered_as.add((answer.model, answer.fingerprint))
            return answer

        schedule = self.schedule.part(self.index, self.count)
        numbers = itertools.count(self.index, self.count)
        generator = LoadGenerator(ask, self.requests, schedule, clock, numbers)
        return SentPart(await generator.run(begin), frozenset(answered_as))
