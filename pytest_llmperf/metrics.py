"""The registry of metrics: name, unit, direction, formula and source of each.

Nothing else in the code knows a direction or a formula. A metric is computed
from one run: rates pool tokens and time over its requests, first token is
the median over requests, end to end is the sum.

Projects and packages add metrics by ``register_metric`` or the entry-point group
``pytest_llmperf.metrics`` (docs/extending.md).
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from numbers import Real
from types import CodeType
from typing import Any, TypeVar

from pytest_llmperf.entry_points import EntryPointError, broken, installed, load_unique, package_of
from pytest_llmperf.metric_types import LARGEST as LARGEST
from pytest_llmperf.metric_types import SMALLEST as SMALLEST
from pytest_llmperf.metric_types import Direction as Direction
from pytest_llmperf.metric_types import Metric as Metric
from pytest_llmperf.metric_types import Unit as Unit
from pytest_llmperf.metric_types import is_plausible as is_plausible
from pytest_llmperf.own_metrics import OWN_METRICS, not_in_runs
from pytest_llmperf.run import Run
from pytest_llmperf.timeline import Timeline

GROUP = "pytest_llmperf.metrics"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_Kind = TypeVar("_Kind", Unit, Direction)


class UnknownMetricError(LookupError):
    """No metric has that name; the message names the nearest ones."""


class MetricError(ValueError):
    """A metric can't be registered; the message says what is wrong with it."""


METRICS: dict[str, Metric] = {metric.name: metric for metric in OWN_METRICS}
#: The plugin's own metrics, without those registered later.
_OWN = frozenset(METRICS)
#: Metrics that a bare ``perf`` marker gates.
DEFAULT_GATED: tuple[str, ...] = ("tokens_per_sec", "first_token", "end_to_end")
#: Metrics that every perf test shows, gated or not, to locate a slowdown.
ALWAYS_SHOWN: tuple[str, ...] = (
    "tokens_per_sec",
    "prefill_tokens_per_sec",
    "first_token",
    "end_to_end",
)
#: The same for tests under load. The throughput of an open load is given by its rate.
DEFAULT_GATED_UNDER_LOAD: tuple[str, ...] = ("first_token", "request_latency")
DEFAULT_GATED_IN_FLIGHT = ("output_tokens_per_sec", *DEFAULT_GATED_UNDER_LOAD)
ALWAYS_SHOWN_UNDER_LOAD = (
    "requests_per_sec",
    "output_tokens_per_sec",
    "tokens_per_sec",
    "first_token",
    "request_latency",
)

#: Metrics with percentiles, such as ``inter_token_p95``.
PERCENTILE_OF = ("inter_token", "first_token", "request_latency")
#: The values that these percentiles are taken of, pooled over requests.
_POOLED = {
    "inter_token": "the gaps t_{i+1} - t_i",
    "first_token": "t_1 - t_start",
    "request_latency": "t_n - t_start",
}
_PERCENTILE_NAME = re.compile(rf"({'|'.join(PERCENTILE_OF)})_p(\d{{1,2}}(?:\.\d{{1,2}})?)")


def percentile_parts(name: str) -> tuple[str, float] | None:
    """Split ``inter_token_p95`` into the metric's name and 95.0; None for any other name."""
    match = _PERCENTILE_NAME.fullmatch(name)
    return (match[1], float(match[2])) if match and float(match[2]) > 0 else None


def percentile_name(name: str, percent: float) -> str:
    """Name a percentile of a metric: ``inter_token_p95``."""
    return f"{name}_p{percent:g}"


def between_chunks(metric: Metric) -> Metric:
    """Return a metric with the label and formula for answers in chunks, which are not tokens."""
    return replace(
        metric,
        label=metric.label.replace("inter-token", "chunk gap"),
        formula=metric.formula.replace(_POOLED["inter_token"], "the gaps between chunks"),
    )


@lru_cache(maxsize=64)
def _percentile_metric(name: str, of: str, percent: float) -> Metric:
    whole = METRICS[of]
    what = _POOLED[of]
    return Metric(
        name,
        f"{whole.label} p{percent:g}",
        whole.unit,
        whole.direction,
        name,
        f"{percent:g}th percentile of {what}, pooled over a process's counted iterations",
        whole.source,
        not_in_runs,
        kind="percentile",
    )


def known_metric(name: str) -> Metric | None:
    """Return the metric called ``name``, a percentile included, or None."""
    if name in METRICS:
        return METRICS[name]
    if (parts := percentile_parts(name)) is not None:
        return _percentile_metric(percentile_name(*parts), *parts)
    if name in installed(GROUP):
        with suppress(EntryPointError, MetricError):
            return _add(_installed_metric(name))
    return None


def get_metric(name: str) -> Metric:
    """Return the metric called ``name``, a percentile such as ``inter_token_p95`` included.

    Raises:
        UnknownMetricError: it is not registered (the message names similar ones), or its
            package is broken.
    """
    if name not in METRICS and name in installed(GROUP):
        try:
            return _add(_installed_metric(name))
        except (EntryPointError, MetricError) as error:
            raise UnknownMetricError(f"unknown metric {name!r}: {error}") from error
    metric = known_metric(name)
    if metric is None:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(METRICS)
        raise UnknownMetricError(f"unknown metric {name!r}{hint} (known: {known})")
    return metric


def register_metric(
    name: str,
    *,
    label: str,
    unit: Unit | str,
    direction: Direction | str,
    formula: str,
    compute: Callable[[Sequence[Timeline]], float | None],
    source: str = "",
    quantity: str = "",
    resolution: float | None = None,
    compared: bool = True,
) -> Metric:
    """Add a metric to markers, targets, tables, records and commands.

    Registering the same definition again changes nothing.

    Args:
        name: its name in ``perf_metric(...)``, ``perf.targets`` and files: lowercase letters,
            digits and underscores.
        label: its name in tables.
        unit: unit of every value; a ratio is a fraction (0.05), written as 5%.
        direction: direction of improvement.
        formula: its formula over timelines, in words for a reader.
        compute: function from the timelines of one iteration's requests to the value in
            ``unit``; None if undefined.
        source: source of the definition.
        quantity: metrics that express one quantity in two ways share it, and count as one
            check; by default the metric is a separate quantity.
        resolution: the smallest value distinguishable from zero; None if the metric is never
            zero.
        compared: whether it is compared with baselines; otherwise only with a limit.

    Raises:
        MetricError: an argument is wrong, or the name is taken.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or re.search(r"_p\d+$", name):
        raise MetricError(
            f"metric {name!r}: a name has small letters, digits and underscores, and does not "
            "end as a percentile does (_p95)"
        )
    for argument, text in (("label", label), ("formula", formula)):
        if not isinstance(text, str) or not text.strip():
            raise MetricError(f"metric {name!r}: {argument}: expected text, got {text!r}")
    for argument, text in (("source", source), ("quantity", quantity)):
        if not isinstance(text, str):
            raise MetricError(f"metric {name!r}: {argument}: expected text, got {text!r}")
    if not isinstance(compared, bool):
        raise MetricError(f"metric {name!r}: compared: expected True or False, got {compared!r}")
    if not callable(compute):
        raise MetricError(f"metric {name!r}: compute: expected a function, got {compute!r}")
    if resolution is not None and not _is_above_zero(resolution):
        raise MetricError(
            f"metric {name!r}: resolution: expected a number above 0, or None, got {resolution!r}"
        )
    metric = Metric(
        name=name,
        label=label,
        unit=_member(Unit, unit, name, "unit"),
        direction=_member(Direction, direction, name, "direction"),
        quantity=quantity or name,
        formula=formula,
        source=source,
        compute=compute,
        compared=compared,
        resolution=resolution,
    )
    return _add(metric)


def load_installed_metrics() -> list[str]:
    """Register the metrics of installed packages; return a message for each unusable one."""
    problems = []
    for name, providers in installed(GROUP).items():
        try:
            if name in _OWN:
                raise MetricError(
                    f"the package {package_of(providers[0])} provides a metric {name!r}, but that "
                    "name belongs to pytest-llmperf; the built-in one is used"
                )
            _add(_installed_metric(name))
        except (EntryPointError, MetricError) as error:
            problems.append(str(error))
    return problems


def _installed_metric(name: str) -> Metric:
    loaded = _load_metric(name, tuple(map(str, sys.path)))
    if isinstance(loaded, EntryPointError):
        raise loaded
    return loaded


@lru_cache(maxsize=64)
def _load_metric(name: str, _path: tuple[str, ...]) -> Metric | EntryPointError:
    """Load a package's metric, or return its error; cached."""
    providers = installed(GROUP)[name]
    try:
        metric = load_unique(providers, "metric")
    except EntryPointError as error:
        return error
    if not isinstance(metric, Metric):
        why = f"expected a Metric, got {type(metric).__name__}; name what register_metric returned"
        return broken(providers[0], "metric", why)
    if metric.name != name:
        return broken(providers[0], "metric", f"its Metric is called {metric.name!r}")
    return metric


def _add(metric: Metric) -> Metric:
    known = METRICS.setdefault(metric.name, metric)
    if known is not metric and _definition(known) != _definition(metric):
        if _where(known) == _where(metric):
            raise MetricError(
                f"metric {metric.name!r} is registered already, with another definition; give the "
                "changed one another name, or start Python again"
            )
        whose = "pytest-llmperf's own" if known.name in _OWN else _where(known)
        raise MetricError(
            f"metric {metric.name!r} is registered twice: by {_where(metric)}, and before by "
            f"{whose}; give one of them another name"
        )
    return known


def _definition(metric: Metric) -> tuple[object, ...]:
    """Return a key that is equal for equal definitions, even if a module is imported again."""
    rest = replace(metric, compute=not_in_runs)
    return rest, _where(metric), _code(getattr(metric.compute, "__code__", None))


def _code(value: object) -> object:
    """Return a comparable form of a function's code, without its place in the source."""
    if not isinstance(value, CodeType):
        return type(value), value
    return value.co_code, value.co_names, tuple(map(_code, value.co_consts))


def _where(metric: Metric) -> str:
    compute = metric.compute
    return f"{getattr(compute, '__module__', '')}:{getattr(compute, '__qualname__', compute)}"


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and value is not True and is_plausible(value)


def _member(kind: type[_Kind], given: _Kind | str, name: str, argument: str) -> _Kind:
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(repr(member.value) for member in kind)
        raise MetricError(
            f"metric {name!r}: {argument}: expected one of {known}, got {given!r}"
        ) from None


def compute_all(run: Run, problems: dict[str, str] | None = None) -> dict[str, float]:
    """Compute every metric that is defined for a run, in base units.

    A registered metric whose formula fails is left out, and the reason is put into ``problems``.
    Times while other processes had their turns do not count.
    """
    return dict(_defined(run.without_pauses(), {} if problems is None else problems))


def _defined(run: Run, problems: dict[str, str]) -> Iterator[tuple[str, float]]:
    for metric in METRICS.values():
        if metric.name in _OWN:
            value = metric.compute(run)
        else:
            value = _of_others(metric, list(run.timelines), problems)
        if value is not None:
            yield metric.name, value


def _of_others(metric: Metric, timelines: list[Timeline], problems: dict[str, str]) -> float | None:
    """Compute a registered metric, which is a formula over timelines, catching its errors."""
    formula: Callable[[Any], float | None] = metric.compute
    try:
        value: object = formula(timelines)
        number = float(value) if isinstance(value, Real) else 0.0
    except (Exception, SystemExit) as error:  # a number may be too large for a float
        problems[metric.name] = f"its formula raised {type(error).__name__}: {error}"
        return None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        kind = type(value).__name__
        problems[metric.name] = (
            f"its formula returned a value of type {kind}; expected a number or None"
        )
        return None
    if not metric.allows(number):
        allowed = (
            "of 0 or more" if metric.resolution is not None else "above 0 (0 takes a resolution)"
        )
        problems[metric.name] = f"its formula returned {number:g}; expected a number {allowed}"
        return None
    return number
