"""Checks of a server in a diagnosis: its counters before measuring, and a short load."""

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

#: Maximum number of requests at once, also used if the server does not say how many it computes.
_AT_ONCE = 8
#: Seconds of a load, and the largest parts of the budget for it and for one wave of answers.
_SECONDS, _BUDGET_PART, _WAVE_PART = 10.0, 1 / 6, 1 / 4
#: Counters are read once a second: a shorter load shows nothing. Nor does the last wave of answers,
#: which no others follow; so a load has this many waves, if they fit into this part of the budget.
_MIN_SECONDS, _WAVES, _WAVES_PART = 3.0, 4, 1 / 3


@dataclass(frozen=True)
class ServerLoad:
    """A short load on a server.

    Attributes:
        shown: number of requests, and what the server's counters say.
        figures: its distributions and rates.
        metrics: its values by metric, base units, and percentiles of its latencies.
    """

    shown: ShownLoad
    figures: LoadFigures
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class ServerCheck:
    """Observations of a server.

    Attributes:
        now: its counters before the doctor measured; None if it publishes none, or was started by
            the doctor.
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
    """Return the load to send; None if too few answers fit into the budget.

    Args:
        slots: requests that the server computes at once; 0 where it does not say.
        answer_seconds: time of one answer, with no other request running.
        budget: seconds for all measuring.
        at_once: requests at once that the user asked for, or None.
    """
    waves = min(_WAVES * answer_seconds, _WAVES_PART * budget)
    seconds = max(_MIN_SECONDS, min(_SECONDS, _BUDGET_PART * budget), waves)
    if at_once is None:
        # Two show whether a server with one slot makes a second request wait.
        at_once = min(max(slots, 2), _AT_ONCE) if slots else _AT_ONCE
        fits = int(_WAVE_PART * budget / max(answer_seconds, 1e-3))
        at_once = min(at_once, fits)
        if at_once < 2:
            return None
    return LoadPattern("closed", concurrency=at_once, duration=seconds)


def server_load(pattern: LoadPattern, samples: TestSamples) -> ServerLoad | None:
    """Return the results of a load, even on a disturbed machine; None if nothing was answered."""
    loaded = [sample for sample in (*samples.processes, *samples.voided) if sample.load is not None]
    shown = shown_load(pattern, loaded[:1])
    if not loaded or shown is None or loaded[0].load is None:
        return None
    values = dict(loaded[0].iterations[0]) if loaded[0].iterations else {}
    for name, latency in {"first_token": "first_token", "request_latency": "end_to_end"}.items():
        spread = loaded[0].load.from_schedule.get(latency)
        for share, value in (spread.percentiles if spread is not None else {}).items():
            values[percentile_name(name, share)] = value
    return ServerLoad(shown, loaded[0].load, values)
