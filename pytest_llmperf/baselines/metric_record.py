"""One metric of a stored test: its raw samples, and whether it can have measured them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.metrics import LARGEST, SMALLEST, is_plausible, known_metric

if TYPE_CHECKING:
    from pytest_llmperf.baselines.reader import Reader
    from pytest_llmperf.metrics import Metric

#: Processes x iterations, in the metric's base unit.
Samples = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MetricRecord:
    """One metric's raw samples, by process, in ``unit``."""

    unit: str
    samples: Samples


def read_metric(item: Reader, name: str) -> MetricRecord:
    """Read the unit and the samples of the metric called ``name``; of an unknown one any unit.

    Raises:
        ShapeError: which item is wrong, what was expected and what it is.
    """
    metric = known_metric(name)
    unit = item["unit"].text()
    if metric is not None and unit != metric.unit.value:
        raise item["unit"].wrong(repr(metric.unit.value))
    samples = tuple(
        tuple(_sample(value, metric) for value in process.elements())
        for process in item["samples"].elements()
    )
    if not samples or not all(samples):
        raise item["samples"].wrong("at least one process with at least one sample each")
    return MetricRecord(unit, samples)


def is_measurable(number: float, name: str) -> bool:
    """Whether the metric called ``name`` can come to this value; of an unknown one any may be 0."""
    metric = known_metric(name)
    return metric.allows(number) if metric is not None else number == 0 or is_plausible(number)


def _sample(item: Reader, metric: Metric | None) -> float:
    number = item.number()
    zero = metric is None or metric.resolution is not None
    if not (is_plausible(number) or (zero and number == 0)):
        between = f"a number from {SMALLEST:g} to {LARGEST:g}"
        raise item.wrong(f"0 or {between}" if zero else between)
    return number
