"""Reads the markers ``load`` and ``goodput``: how a test's requests are sent to a server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.fitness_checks import SEVERITIES
from pytest_llmperf.plugin.marker_lines import marker_line
from pytest_llmperf.plugin.markers import (
    GOODPUT_LIMITS,
    LOAD_ARGUMENTS,
    MarkerError,
    marker_levels,
    refuse_unknown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_llmperf.engine_kinds import EngineKind
    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.measure.load_pattern import Arrivals, LoadPattern, TracedRequest

MARKER, GOODPUT = "load", "goodput"
_ONLY_UNDER_LOAD = (
    "request_latency",
    "requests_per_sec",
    "output_tokens_per_sec",
    "goodput",
    "error_rate",
)
#: Metrics with one value per request.
_ONE_OF_A_REQUEST = ("first_token", "request_latency")
#: Markers that judge failed requests, so that these don't void the load.
_COUNT_FAILURES = ("error_rate", "goodput")
#: Metrics that say nothing about a load -> the metric to judge instead.
_INSTEAD = {
    "end_to_end": "request_latency, the time of a request",
    "stall_rate": "a percentile of request_latency",
}


def read_load(item: pytest.Item) -> tuple[LoadPattern | None, list[str]]:
    """Return a test's load pattern, None without a marker, and the problems with it.

    The closest marker counts.
    """
    name = MARKER
    try:
        load = _closest(item, MARKER)
        goodput = _closest(item, GOODPUT)
        if load is None:
            return None, []
        pattern = _pattern(load, item.config.rootpath)
        if "max_errors" not in load.kwargs and any(map(item.get_closest_marker, _COUNT_FAILURES)):
            pattern = replace(pattern, max_error_rate=1.0)
        asked = item.config.getoption("llmperf_rate")
        if asked is not None:
            pattern = _at_rate(pattern, asked)
        if goodput is not None:
            name = GOODPUT
            pattern = _with_limits(pattern, goodput)
    except MarkerError as error:
        return None, [f"{item.nodeid}: marker {name!r} {error}{marker_line(item, name)}"]
    return pattern, []


def load_problems(
    item: pytest.Item, pattern: LoadPattern | None, checks: Iterable[Check], kind: EngineKind
) -> list[str]:
    """Return why a test can't be measured as its markers ask.

    Args:
        item: the test.
        pattern: the pattern of its load, or None.
        checks: the checks of the test.
        kind: the kind of the configured engine.
    """
    from pytest_llmperf.metrics import percentile_parts

    names = [check.metric.name for check in checks if check.asked]
    asked = {(percentile_parts(name) or (name,))[0] for name in names if _is_marked(item, name)}
    where = f"{item.nodeid}: marker"
    if pattern is None:
        return [
            f"{where} {name!r} judges a load; add the marker load(concurrency=8, requests=64)"
            for name in sorted(asked.intersection(_ONLY_UNDER_LOAD))
        ]
    if not kind.loads:
        return [
            f"{where} 'load' needs an engine that answers several requests at a time, and "
            f"{kind.name} answers one; set llm.engine: server, or remove the marker"
        ]
    problems = [
        f"{where} {name!r} says nothing about a load; judge {_INSTEAD[name]}"
        for name in sorted(asked.intersection(_INSTEAD))
    ]
    if "goodput" in asked and not pattern.limits:
        problems.append(
            f"{where} 'goodput' needs the latencies of a good answer: "
            "goodput(first_token='500ms', min='95%')"
        )
    return problems


def too_few_requests(
    item: pytest.Item,
    pattern: LoadPattern | None,
    checks: Iterable[Check],
    loads: int,
    setting: str,
) -> list[str]:
    """Return a problem for each percentile that needs more requests than all loads together have.

    Args:
        item: the test.
        pattern: the pattern of its load, or None.
        checks: the checks of the test.
        loads: maximum number of loads that a side measures.
        setting: the key of section ``perf`` that limits them.
    """
    from pytest_llmperf.gate.sequential import first_look, has_enough_values
    from pytest_llmperf.metrics import percentile_parts
    from pytest_llmperf.stats.percentiles import min_values

    requests = None if pattern is None else pattern.max_requests
    if requests is None:
        return []
    problems = []
    for check in checks:
        parts = percentile_parts(check.metric.name)
        if parts is None or parts[0] not in _ONE_OF_A_REQUEST or not check.gated:
            continue
        if has_enough_values(check.metric, parts[1], requests, loads):
            continue
        groups, values = first_look(check.metric), min_values(parts[1])
        # Each group of whole loads has the values of one percentile.
        more = (
            f"send {-(-values // (loads // groups))} requests or more, " if loads >= groups else ""
        )
        problems.append(
            f"{item.nodeid}: {check.metric.label} needs {groups} groups of {values} requests, but "
            f"{loads} loads of {requests} requests provide fewer; {more}raise perf.{setting}, or "
            "ask for a lower percentile"
        )
    return problems


def _is_marked(item: pytest.Item, name: str) -> bool:
    """Whether a marker of the test asks for a metric; otherwise the configuration does."""
    from pytest_llmperf.metrics import percentile_parts

    whole = (percentile_parts(name) or (name,))[0]
    others = (mark.args[:1] for mark in item.iter_markers("perf_metric"))
    return item.get_closest_marker(whole) is not None or any(
        {name, whole} & {*args} for args in others
    )


def _closest(item: pytest.Item, name: str) -> pytest.Mark | None:
    level = next(marker_levels(item, (name,)), None)
    if level is None:
        return None
    if any(mark.kwargs != level[0].kwargs or mark.args != level[0].args for mark in level):
        raise MarkerError(
            "contradicts another marker of the same name on this test; keep one of them"
        )
    return level[0]


def _pattern(mark: pytest.Mark, root: Path) -> LoadPattern:
    from pytest_llmperf.measure.load_pattern import LoadPattern

    if mark.args:
        raise MarkerError(f"takes its numbers by name: load(concurrency={mark.args[0]!r})")
    refuse_unknown(mark, set(LOAD_ARGUMENTS))
    given = dict(mark.kwargs)
    kinds = [name for name in ("concurrency", "rate", "trace") if name in given]
    if len(kinds) != 1:
        raise MarkerError(
            "needs exactly one of concurrency=8 (requests in flight), rate='4/s' and trace='FILE'"
            + (f", but has {' and '.join(kinds)}" if kinds else "")
        )
    if "max_errors" in given:
        given["max_error_rate"] = _share(given.pop("max_errors"))
    if (severity := given.get("over_saturated", "invalid")) not in SEVERITIES:
        raise MarkerError(f"over_saturated: expected 'note', 'warn' or 'invalid', got {severity!r}")
    if "duration" in given:
        given["duration"] = _duration("duration", given["duration"])
    arrivals = given.pop("arrivals", None)
    if arrivals is not None and kinds != ["rate"]:
        raise MarkerError(f"arrivals= goes with rate=, and this load has {kinds[0]}=")
    if arrivals not in (None, "poisson", "constant"):
        raise MarkerError(f"arrivals: expected 'poisson' or 'constant', got {arrivals!r}")
    if kinds == ["trace"]:
        given["trace"] = _traced(given, root)
    elif kinds == ["rate"]:
        given["rate"] = _rate(given["rate"])
    kind: dict[str, Arrivals] = {
        "concurrency": "closed",
        "rate": "constant" if arrivals == "constant" else "poisson",
        "trace": "trace",
    }
    try:
        return LoadPattern(kind[kinds[0]], **given)
    except ValueError as error:
        raise MarkerError(f"is not valid: {error}") from None


def _traced(given: dict[str, Any], root: Path) -> tuple[TracedRequest, ...]:
    from pytest_llmperf.engine.server.schedule import ScheduleError, trace
    from pytest_llmperf.measure.load_pattern import TracedRequest

    if extra := sorted({"requests", "duration"} & given.keys()):
        raise MarkerError(f"has trace= and {extra[0]}=: the file says when each request is due")
    path = given["trace"]
    if not isinstance(path, str):
        raise MarkerError(f"trace: expected the name of a file, got {path!r}")
    try:
        read = trace(root / path)
    except ScheduleError as error:
        raise MarkerError(f"trace: {error}") from None
    return tuple(TracedRequest.of(*pair) for pair in zip(read.due, read.traced, strict=True))


def _at_rate(pattern: LoadPattern, asked: str) -> LoadPattern:
    """Return the load at the rate that ``--llmperf-rate`` asks for."""
    if pattern.arrivals == "trace":
        raise MarkerError(
            "has trace=, which fixes the time of every request; --llmperf-rate needs rate= or "
            "concurrency="
        )
    if pattern.duration is None or pattern.requests is not None:
        raise MarkerError(
            "has requests=, so another rate would change how long the load lasts; --llmperf-rate "
            "needs a load with duration= and without requests="
        )
    rate = _rate(asked)
    if not rate > 0:
        raise MarkerError(f"--llmperf-rate: expected more than 0, got {asked!r}")
    arrivals: Arrivals = "constant" if pattern.arrivals == "constant" else "poisson"
    return replace(pattern, arrivals=arrivals, rate=rate, concurrency=None)


def _with_limits(pattern: LoadPattern, mark: pytest.Mark) -> LoadPattern:
    limits = {
        latency: _duration(name, mark.kwargs[name])
        for name, latency in GOODPUT_LIMITS.items()
        if name in mark.kwargs
    }
    return replace(pattern, limits=limits)


def _duration(name: str, value: object) -> float:
    from pytest_llmperf.units import UnitError, parse_duration

    try:
        seconds = parse_duration(value)
    except UnitError as error:
        raise MarkerError(f"{name}: {error}") from None
    if seconds <= 0:
        raise MarkerError(f"{name}: expected more than 0, got {value!r}")
    return seconds


def _rate(value: object) -> float:
    from pytest_llmperf.metrics import Unit
    from pytest_llmperf.units import UnitError, parse_quantity

    try:
        return parse_quantity(value, Unit.PER_SECOND)
    except UnitError as error:
        raise MarkerError(f"rate: {error}") from None


def _share(value: object) -> float:
    from pytest_llmperf.units import UnitError, parse_fraction

    try:
        return parse_fraction(value)
    except UnitError as error:
        raise MarkerError(f"max_errors: {error}") from None
