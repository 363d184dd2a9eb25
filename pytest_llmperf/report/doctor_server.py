"""The doctor's report on a server: its identity, current work, and speed under a short load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gate.words import count, percent
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.doctor.server import ServerCheck, ServerLoad
    from pytest_llmperf.engine.info import EngineInfo
    from pytest_llmperf.engine.server.counters import ServerCounters

#: Metrics shown for the load, in order.
_UNDER_LOAD = ("requests_per_sec", "output_tokens_per_sec", "first_token", "request_latency")


def server_facts(
    server: ServerCheck, info: EngineInfo | None, named: str
) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each fact about a server; ``named``: its name in the config."""
    if info is None:
        yield "server", named
        return
    slots = f", {count(info.slots, 'slot')}" if info.slots else ""
    title = f"{info.model_title} {info.quantization}".strip()
    yield "server", f"{title}, {info.engine_version}{slots}; {named}"
    if server.now is not None:
        yield "now", _now(server.now)


def load_facts(server: ServerCheck) -> Iterator[tuple[str, str]]:
    """Yield a label and a text for each fact about the short load."""
    if (load := server.load) is not None:
        yield "load", _load(load)
    if server.no_counters:
        yield "counters", f"none: {server.no_counters}; without them fewer causes can be found"
    elif load is not None:
        for text in load.shown.server:
            yield "counters", text.replace("'s own counters", "", 1)


def _now(now: ServerCounters) -> str:
    """Describe what a server was doing before the doctor measured."""
    parts = []
    if now.running is not None:
        parts.append(f"{count(now.running, 'request')} running")
    if now.waiting is not None:
        parts.append(f"{now.waiting} waiting")
    if now.kv_use is not None:
        parts.append(f"{percent(now.kv_use)} of the KV cache in use")
    return f"{', '.join(parts) or 'nothing is counted'}, before the doctor's own ({now.server})"


def _load(load: ServerLoad) -> str:
    values = [
        f"{get_metric(name).label} {format_quantity(load.metrics[name], get_metric(name).unit)}"
        for name in _UNDER_LOAD
        if name in load.metrics
    ]
    failed = load.figures.requests - load.figures.answered
    done = f"{count(load.figures.requests, 'request')}, {failed or 'none'} failed"
    return f"{load.shown.pattern}: {', '.join([*values, done])}"


def server_json(server: ServerCheck | None, info: EngineInfo | None) -> Mapping[str, Any] | None:
    """Return the check of a server as plain JSON types; None for other engines."""
    if server is None:
        return None
    load = server.load
    return {
        "slots": (info.slots or None) if info is not None else None,
        "now": asdict(server.now) if server.now is not None else None,
        "no_counters": server.no_counters or None,
        "load": {**asdict(load.shown), "metrics": dict(load.metrics)} if load else None,
    }
