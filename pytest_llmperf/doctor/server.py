"""A server under a short load, and what it is doing before: what a diagnosis adds for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmperf.engine.server.counters import (
    NoCountersError,
    ServerCounters,
    ask_counters,
    counters_session,
)
from pytest_llmperf.engine.server.settings import ServerSettings
from pytest_llmperf.measure.load_pattern import LoadPattern
from pytest_llmperf.metrics import percentile_name
from pytest_llmperf.session.shown_load import ShownLoad, shown_load

if TYPE_CHECKING:
    from pytest_llmperf.measure.load_metrics import LoadFigures
    from pytest_llmperf.measure.samples import TestSamples

#: Requests at once, where the server does not say how many it computes, and at most.
_AT_ONCE = 8
#: A load's seconds, and the largest parts of the budget for it and for one wave of answers.
_SECONDS, _BUDGET_PART, _WAVE_PART = 10.0, 1 / 6, 1 / 4
#: Counters are read once a second: a shorter load shows nothing. Nor do the last answers of a load,
#: which others no longer follow: it has so many, one after the other, if they fit.
_MIN_SECONDS, _WAVES, _WAVES_PART = 3.0, 4, 1 / 3


@dataclass(frozen=True)
class ServerLoad:
    """A short load on a server.

    Attributes:
        shown: how many requests there were, and what the server's counters say.
        figures: its distributions and rates.
        metrics: its values by metric, base units, and percentiles of its latencies.
    """

    shown: ShownLoad
    figures: LoadFigures
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class ServerCheck:
    """What was seen of a server.

    Attributes:
        now: its counters before the doctor measured; None where it publishes none, or was started
            for this.
        no_counters: why its counters can't be read; empty if they can.
        load: the short load; None if none was sent.
    """

    now: ServerCounters | None = None
    no_counters: str = ""
    load: ServerLoad | None = field(default=None)


def look_at_running(config: Mapping[str, Any]) -> ServerCheck:
    """Read the counters of the server that runs at ``llm.url``."""

    async def ask() -> ServerCounters:
        settings = ServerSettings.of_section(config, str(config["url"]))
        async with counters_session(settings) as session:
            return await ask_counters(session, settings)

    try:
        return ServerCheck(asyncio.run(ask()))
    except NoCountersError as error:
        return ServerCheck(no_counters=str(error))


def short_load(
    slots: int, answer_seconds: float, budget: float, at_once: int | None
) -> LoadPattern | None:
    """Return the load to send; None if too few answers come in the time.

    Args:
        slots: requests that the server computes at once; 0 where it does not say.
        answer_seconds: time of one answer, without others.
        budget: of all measuring.
        at_once: requests at once that the user asked for, or None.
    """
    waves = min(_WAVES * answer_seconds, _WAVES_PART * budget)
    seconds = max(_MIN_SECONDS, min(_SECONDS, _BUDGET_PART * budget), waves)
    if at_once is None:
        # Two show whether a server with one slot has a second request wait.
        at_once = min(max(slots, 2), _AT_ONCE) if slots else _AT_ONCE
        fits = int(_WAVE_PART * budget / max(answer_seconds, 1e-3))
        at_once = min(at_once, fits)
        if at_once < 2:
            return None
    return LoadPattern("closed", concurrency=at_once, duration=seconds)


def server_load(pattern: LoadPattern, samples: TestSamples) -> ServerLoad | None:
    """Return what a load measured, on a disturbed machine too; None if nothing was answered."""
    every = [one for one in (*samples.processes, *samples.voided) if one.load is not None]
    shown = shown_load(pattern, every[:1])
    if not every or shown is None or every[0].load is None:
        return None
    values = dict(every[0].iterations[0]) if every[0].iterations else {}
    for name, latency in {"first_token": "first_token", "request_latency": "end_to_end"}.items():
        found = every[0].load.from_schedule.get(latency)
        for share, value in (found.percentiles if found is not None else {}).items():
            values[percentile_name(name, share)] = value
    return ServerLoad(shown, every[0].load, values)
