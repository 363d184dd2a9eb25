"""One metric of a stored test: its raw samples, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, PlainSerializer

from pytest_llmperf.metrics import LARGEST, SMALLEST, is_plausible, known_metric
from pytest_llmperf.stored_json import Number, Stored, inside, unexpected

if TYPE_CHECKING:
    pass

#: Processes x iterations, in the metric's base unit.
Samples = Annotated[
    tuple[tuple[Number, ...], ...],
    PlainSerializer(lambda samples: [[float(x) for x in one] for one in samples]),
]


@dataclass(frozen=True)
class MetricRecord(Stored):
    """One metric's raw samples, by process, in ``unit``."""

    unit: str
    samples: Samples


def check_metric(name: str, unit: str, samples: Samples) -> None:
    """Check samples against the metric called ``name``; an unknown one may have any unit.

    Raises:
        ItemError: which item is wrong.
    """
    metric = known_metric(name)
    if metric is not None and unit != metric.unit.value:
        raise unexpected(repr(metric.unit.value), unit, "unit")
    if not samples or not all(samples):
        what = "at least one process with at least one sample each"
        raise unexpected(what, list(map(list, samples)), "samples")
    zero = metric is None or metric.resolution is not None
    for i, process in enumerate(samples):
        for j, number in enumerate(process):
            if not (is_plausible(number) or (zero and number == 0)):
                between = f"a number from {SMALLEST:g} to {LARGEST:g}"
                expected = f"0 or {between}" if zero else between
                raise unexpected(expected, number, "samples", i, j)


def _check_all(metrics: Mapping[str, MetricRecord]) -> Mapping[str, MetricRecord]:
    for name, metric in metrics.items():
        with inside(name):
            check_metric(name, metric.unit, metric.samples)
    return metrics


#: A test's metrics by name.
Metrics = Annotated[Mapping[str, MetricRecord], AfterValidator(_check_all)]


def is_measurable(number: float, name: str) -> bool:
    """Whether a value is possible for the metric called ``name``; an unknown one may be 0."""
    metric = known_metric(name)
    return metric.allows(number) if metric is not None else number == 0 or is_plausible(number)
