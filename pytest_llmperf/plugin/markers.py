"""Reads and validates the markers of perf tests, at collection."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.plugin.marker_lines import marker_line

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Check
    from pytest_llmperf.metrics import Metric
    from pytest_llmperf.units import ToleranceSetting

#: Marker -> its description in ``pytest --markers``.
MARKERS = {
    "perf": (
        "perf(tolerance='5%', budget='2m'): a performance test; judges the default metrics. Run "
        "with -m perf."
    ),
    "tokens_per_sec": (
        "tokens_per_sec(min=60, tolerance='5%'): judge the decode rate, tokens per second."
    ),
    "first_token": (
        "first_token(max='500ms', percentile=95, tolerance='5%'): judge the time to the first "
        "token."
    ),
    "end_to_end": (
        "end_to_end(max='5s', tolerance='5%'): judge the time of all requests of the test."
    ),
    "inter_token": (
        "inter_token(max='20ms', percentile=95, tolerance='5%'): judge the time between tokens."
    ),
    "stall_rate": (
        "stall_rate(max='20%', tolerance='20%'): judge the share of iterations that stall."
    ),
    "roofline": (
        "roofline(min='50%', tolerance='5%'): judge how close decode comes to the limit of the "
        "machine's memory bandwidth; needs no baseline."
    ),
    "gpu_memory": (
        "gpu_memory(max='8GiB', tolerance='5%'): judge the largest GPU memory of the engine."
    ),
    "energy_per_token": (
        "energy_per_token(max='2J', tolerance='5%'): judge the GPUs' energy per output token."
    ),
    "quality": (
        "quality(max_kl=0.02, max_perplexity_increase='1%', min_top1='95%'): judge how far the "
        "answers differ from those of the configured reference."
    ),
    "perf_sweep": (
        "perf_sweep(n_batch=[512, 1024], n_ctx=[2048, 4096]): run the test once for every "
        "combination of these engine settings, each with its own verdicts and baselines."
    ),
    "load": (
        "load(concurrency=8, rate='4/s', arrivals='poisson', trace='FILE', requests=64, "
        "duration='30s', max_errors='1%', over_saturated='note'): send the test's requests to a "
        "server again and again, several at a time; needs one of concurrency, rate and trace."
    ),
    "goodput": (
        "goodput(first_token='500ms', time_per_token='50ms', first_answer_token='1s', "
        "request_latency='5s', min='95%', tolerance='5%'): judge the share of a load's requests "
        "that are answered within these limits."
    ),
    "request_latency": (
        "request_latency(max='5s', percentile=95, tolerance='5%'): judge the time of a "
        "load's request, from when it was due."
    ),
    "requests_per_sec": (
        "requests_per_sec(min='4/s', tolerance='5%'): judge the answers per second of a load."
    ),
    "output_tokens_per_sec": (
        "output_tokens_per_sec(min=600, tolerance='5%'): judge the output tokens per second of "
        "all answers to a load together."
    ),
    "error_rate": (
        "error_rate(max='1%', tolerance='5%'): judge the share of a load's requests without a "
        "complete answer."
    ),
    "perf_metric": (
        "perf_metric(name, min=..., max=..., tolerance='5%'): judge any metric by its name; "
        "without a limit, against the baseline only."
    ),
}
#: The same for markers that do not imply ``perf``.
PLAIN_MARKERS = {
    "gpu": (
        "gpu(layers='all', device=None): fail the test before it runs unless this many layers "
        "are on a GPU, or on this one."
    ),
}
#: Markers that name no metric; all others of ``MARKERS`` do.
_NO_METRIC = ("perf", "perf_sweep", "quality", "load")
METRIC_MARKERS = tuple(name for name in MARKERS if name not in _NO_METRIC)
#: Arguments of ``quality``.
QUALITY_ARGUMENTS = frozenset({"max_kl", "max_perplexity_increase", "min_top1"})
#: Arguments of ``load``.
LOAD_ARGUMENTS = frozenset(
    {"concurrency", "rate", "arrivals", "trace", "requests", "duration", "max_errors"}
    | {"over_saturated"}
)
#: Arguments of ``goodput`` that limit a latency -> its name in ``measure/load_metrics.py``.
GOODPUT_LIMITS = {
    "first_token": "first_token",
    "first_answer_token": "first_answer_token",
    "time_per_token": "time_per_output_token",
    "request_latency": "end_to_end",
}


class MarkerError(Exception):
    """A marker is wrong; the message does not name the test."""


def read_checks(
    item: pytest.Item,
    targets: Mapping[str, float],
    tolerance: ToleranceSetting,
    *,
    load: str | None = None,
    in_chunks: bool = False,
) -> tuple[list[Check], list[str]]:
    """Return the checks of a perf test, and the problems with its markers.

    The closest marker of a metric counts: the parameter's, then the function's,
    the class's, the module's. ``targets`` (metric name to limit) apply to
    metrics that no marker of the test names; a test without any metric marker gates
    the default metrics.

    Args:
        item: the test.
        targets: default limits, base units.
        tolerance: default tolerance.
        load: kind of the test's load, or None.
        in_chunks: whether the engine's answers come in chunks, which are not tokens.
    """
    from pytest_llmperf.session.recorded import checks_of_test

    asked: dict[str, Check] = {}
    errors: list[str] = []
    try:
        tolerance = _perf_tolerance(item, tolerance)
    except MarkerError as error:
        where = marker_line(item, "perf")
        errors.append(f"{item.nodeid}: marker 'perf' {error}{where}")
    for level in marker_levels(item, METRIC_MARKERS):
        of_level: dict[str, Check] = {}
        markers: dict[str, str] = {}
        for mark in level:
            try:
                check = _read(mark, tolerance)
                name = check.metric.name
                if of_level.setdefault(name, check) != check:
                    raise MarkerError(
                        f"contradicts the marker {markers[name]!r} on the same test: both set "
                        f"{name}, with different limits or tolerances"
                    )
                markers.setdefault(name, mark.name)
            except MarkerError as error:
                where = marker_line(item, mark.name)
                errors.append(f"{item.nodeid}: marker {mark.name!r} {error}{where}")
        for name, check in of_level.items():
            asked.setdefault(name, check)
    checks = checks_of_test(asked, targets, tolerance, load=load, in_chunks=in_chunks)
    return checks, errors


def marker_levels(item: pytest.Item, names: Collection[str]) -> Iterator[list[pytest.Mark]]:
    """Yield the markers of these names by level, the closest first."""
    callspec = getattr(item, "callspec", None)
    of_parameters = list(getattr(callspec, "marks", ()))
    levels: dict[tuple[int, int], list[pytest.Mark]] = {}
    for node, mark in item.iter_markers_with_node():
        if mark.name in names:
            depth = -1 if mark in of_parameters else _distance(item, node)
            levels.setdefault((depth, _ancestry(node, mark)), []).append(mark)
    for level in sorted(levels):
        yield levels[level]


def _distance(item: pytest.Item, node: Any) -> int:
    return list(reversed(item.listchain())).index(node)


def _ancestry(node: Any, mark: pytest.Mark) -> int:
    """Return how far up a class's bases a mark was set, as a subclass overrides its base."""
    bases = getattr(getattr(node, "obj", None), "__mro__", ())
    for distance, base in enumerate(bases):
        set_here = vars(base).get("pytestmark", ())
        if not isinstance(set_here, list | tuple):
            set_here = (set_here,)
        if mark in [getattr(entry, "mark", entry) for entry in set_here]:
            return distance
    return 0


def _read(mark: pytest.Mark, default: ToleranceSetting) -> Check:
    """Return the check that a metric marker asks for; ``default`` is the test's tolerance."""
    from pytest_llmperf.metrics import (
        PERCENTILE_OF,
        UnknownMetricError,
        get_metric,
        percentile_parts,
    )
    from pytest_llmperf.session.recorded import check_of, default_tolerance

    name, positional = mark.name, mark.args
    if name == "perf_metric":
        if len(positional) != 1 or not isinstance(positional[0], str):
            raise MarkerError("takes the metric's name first: perf_metric('inter_token', ...)")
        name, positional = positional[0], ()
    name = _with_percentile(mark, name)
    try:
        metric = get_metric(name)
    except UnknownMetricError as error:
        raise MarkerError(f"names an {error}") from None
    if positional:
        raise MarkerError(
            f"takes its limit by name: {mark.name}({metric.limit_kind}={positional[0]!r})"
        )
    allowed = {"min", "max", "tolerance"}
    if (percentile_parts(name) or (name,))[0] in PERCENTILE_OF:
        allowed.add("percentile")
    if mark.name == "goodput":
        allowed |= GOODPUT_LIMITS.keys()
    refuse_unknown(mark, allowed)
    if "min" in mark.kwargs and "max" in mark.kwargs:
        raise MarkerError(
            f"has both min and max: {metric.name} is better "
            f"{metric.direction.value}, so it takes {metric.limit_kind}="
        )
    for kind in ("min", "max"):
        if kind in mark.kwargs and kind != metric.limit_kind:
            raise MarkerError(
                f"has {kind}=: {metric.name} is better {metric.direction.value}, "
                f"so its limit is {metric.limit_kind}="
            )
    limit = _limit(mark, metric)
    if limit is None and not metric.compared:
        raise MarkerError(
            f"needs its limit, {metric.limit_kind}=...: {metric.name} is compared with no baseline"
        )
    tolerance = _tolerance(mark)
    if tolerance is None or tolerance == "auto":
        tolerance = default_tolerance(metric, tolerance or default)
    return check_of(metric, limit, tolerance)


def _with_percentile(mark: pytest.Mark, name: str) -> str:
    """Return the name of the percentile that a marker asks for, or of the metric itself."""
    from pytest_llmperf.metrics import PERCENTILE_OF, percentile_name, percentile_parts

    if "percentile" not in mark.kwargs:
        return name
    percent = mark.kwargs["percentile"]
    if percentile_parts(name) is not None:
        raise MarkerError(f"has percentile= and names a percentile: {name}")
    if name not in PERCENTILE_OF:
        return name
    expected = "percentile: expected a number between 50 and 100, of at most two decimals"
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        raise MarkerError(f"{expected}, got {percent!r}")
    if not 50 < percent < 100 or round(percent, 2) != percent:
        raise MarkerError(f"{expected}, got {percent!r}")
    return percentile_name(name, percent)


def refuse_unknown(mark: pytest.Mark, allowed: set[str]) -> None:
    """Refuse an argument the marker does not have.

    Raises:
        MarkerError: naming it, and the most similar valid one.
    """
    import difflib

    for name in mark.kwargs:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise MarkerError(
                f"has an unknown argument {name!r}{hint} (known: {', '.join(sorted(allowed))})"
            )


def _limit(mark: pytest.Mark, metric: Metric) -> float | None:
    from pytest_llmperf.units import UnitError, parse_quantity

    kind = metric.limit_kind
    if kind not in mark.kwargs:
        return None
    try:
        limit = parse_quantity(mark.kwargs[kind], metric.unit)
    except UnitError as error:
        raise MarkerError(f"{kind}: {error}") from None
    if limit <= 0:
        raise MarkerError(f"{kind}: expected a limit above 0, got {mark.kwargs[kind]!r}")
    return limit


def _tolerance(mark: pytest.Mark) -> ToleranceSetting | None:
    from pytest_llmperf.units import UnitError, parse_tolerance_setting

    if "tolerance" not in mark.kwargs:
        return None
    try:
        return parse_tolerance_setting(mark.kwargs["tolerance"])
    except UnitError as error:
        raise MarkerError(f"tolerance: {error}") from None


def _perf_tolerance(item: pytest.Item, default: ToleranceSetting) -> ToleranceSetting:
    for mark in item.iter_markers("perf"):
        if mark.args:
            raise MarkerError("takes no positional argument")
        refuse_unknown(mark, {"tolerance", "budget"})
        tolerance = _tolerance(mark)
        if tolerance is not None:
            return tolerance
    return default


def read_budget(item: pytest.Item) -> tuple[float | None, list[str]]:
    """Return the time limit for replaying a test, seconds, and problems with its markers."""
    from pytest_llmperf.units import UnitError, parse_duration

    for mark in item.iter_markers("perf"):
        if "budget" in mark.kwargs:
            try:
                budget = parse_duration(mark.kwargs["budget"])
            except UnitError as error:
                return None, [_wrong_budget(item, str(error))]
            if budget <= 0:
                return None, [_wrong_budget(item, "expected more than 0, such as '2m'")]
            return budget, []
    return None, []


def _wrong_budget(item: pytest.Item, why: str) -> str:
    return f"{item.nodeid}: marker 'perf' budget: {why}{marker_line(item, 'perf')}"
