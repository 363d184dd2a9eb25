"""The registry of metrics: name, unit, direction, formula and source of each.

Nothing else in the code knows a direction or a formula. A metric is computed
over the requests of one iteration: rates pool tokens and time, first token is
the median over requests, end to end is the sum.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Literal

from pytest_llmperf import formulas
from pytest_llmperf.timeline import Timeline


class Direction(Enum):
    """Which way is better."""

    HIGHER = "higher"
    LOWER = "lower"


class Unit(Enum):
    """Base units; values are always kept in these."""

    TOKENS_PER_SECOND = "tok/s"
    SECONDS = "s"
    BYTES = "B"
    JOULES = "J"
    WATTS = "W"
    RATIO = "%"


@dataclass(frozen=True)
class Metric:
    """One quantity the plugin measures.

    Attributes:
        name: what markers, configuration and files call it.
        label: what tables call it.
        unit: base unit of every stored value.
        direction: which way is better.
        quantity: metrics that are one quantity seen two ways share this, and
            count as one check.
        formula: how it follows from a timeline (see docs/words.md).
        source: where the definition comes from.
        compute: timelines of one iteration's requests -> value in ``unit``, or
            None where it is undefined (one output token has no decode rate).
        kind: ``value`` has one number per iteration; ``percentile`` one per group of
            processes, over what the iterations hold; ``share`` counts iterations.
        compared: whether it is held against a baseline or another arm; one that has a measure
            of its own in this machine is held to its target alone.
        beside: the value is measured beside the generation (by the GPU's counters, or with
            the machine's bandwidth), so no timeline holds it and ``compute`` gives None.
        resolution: the smallest value that can be told from zero, in ``unit``; on the log scale
            zero and smaller values count as it. None where nothing can measure zero.
    """

    name: str
    label: str
    unit: Unit
    direction: Direction
    quantity: str
    formula: str
    source: str
    compute: Callable[[Sequence[Timeline]], float | None]
    kind: Literal["value", "percentile", "share"] = "value"
    beside: bool = False
    compared: bool = True
    resolution: float | None = None

    @property
    def limit_kind(self) -> str:
        """``"min"`` for higher-is-better metrics, ``"max"`` for the others."""
        return "min" if self.direction is Direction.HIGHER else "max"

    def allows(self, value: float) -> bool:
        """Whether a measurement can come to this value: plausible, and zero only where it may."""
        return is_plausible(value) or (value == 0 and self.resolution is not None)

    def log(self, value: float) -> float:
        """Return the natural logarithm of a value; zero counts as the metric's resolution.

        Raises:
            ValueError: the value is not above zero, and nothing can measure zero.
        """
        return math.log(max(value, self.resolution or 0.0))

    def slowdown(self, current: float, baseline: float) -> float:
        """Relative change with the sign turned so that positive is worse (0.05 = 5% worse)."""
        least = self.resolution or 0.0
        now, before = max(current, least), max(baseline, least)
        return (before / now if self.direction is Direction.HIGHER else now / before) - 1.0


#: No measurement of any unit lies outside: a nanosecond, a terabyte and more are far inside.
SMALLEST, LARGEST = 1e-15, 1e18


def is_plausible(value: float) -> bool:
    """Whether a number can be a measurement of anything but zero."""
    return SMALLEST <= value <= LARGEST


class UnknownMetricError(LookupError):
    """No metric has that name; the message names the nearest ones."""


_LLAMA_BENCH = "llama.cpp tools/llama-bench"
_GENAI_PERF = "NVIDIA AIPerf / GenAI-Perf metric definitions"
_NVML = "NVML API reference"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "tokens_per_sec",
            "tokens/s",
            Unit.TOKENS_PER_SECOND,
            Direction.HIGHER,
            "decode",
            "(n-1) / (t_n - t_1), tokens and times pooled over requests",
            f"{_LLAMA_BENCH}, test tg; decode throughput without the first token",
            formulas.tokens_per_sec,
        ),
        Metric(
            "first_token",
            "first token",
            Unit.SECONDS,
            Direction.LOWER,
            "first_token",
            "t_1 - t_start, tokenizing and prefill included; median over requests",
            f"{_GENAI_PERF}, time to first token (TTFT)",
            formulas.first_token,
        ),
        Metric(
            "end_to_end",
            "end to end",
            Unit.SECONDS,
            Direction.LOWER,
            "end_to_end",
            "t_n - t_start, summed over requests",
            f"{_GENAI_PERF}, request latency",
            formulas.end_to_end,
        ),
        Metric(
            "prefill_tokens_per_sec",
            "prefill",
            Unit.TOKENS_PER_SECOND,
            Direction.HIGHER,
            "prefill",
            "prompt tokens evaluated / time to evaluate them, pooled over requests",
            f"{_LLAMA_BENCH}, test pp",
            formulas.prefill_tokens_per_sec,
        ),
        Metric(
            "time_per_output_token",
            "time per token",
            Unit.SECONDS,
            Direction.LOWER,
            "decode",
            "(t_n - t_1) / (n-1), pooled over requests",
            f"{_GENAI_PERF}, time per output token (TPOT)",
            formulas.time_per_output_token,
        ),
        Metric(
            "inter_token",
            "inter-token",
            Unit.SECONDS,
            Direction.LOWER,
            "inter_token",
            "median of the gaps t_{i+1} - t_i over all requests",
            f"{_GENAI_PERF}, inter-token latency (ITL)",
            formulas.inter_token,
        ),
        Metric(
            "stall_rate",
            "stall rate",
            Unit.RATIO,
            Direction.LOWER,
            "stall_rate",
            "share of iterations longer than 1.25 times the median over processes",
            "asked for where a median is blind: a change that hits a minority of iterations",
            formulas.not_in_timelines,
            kind="share",
            resolution=0.01,
        ),
        Metric(
            "roofline",
            "roofline",
            Unit.RATIO,
            Direction.HIGHER,
            "decode",
            "bytes read per token (weights used, and the KV cache at that depth) * tokens per "
            "second / memory bandwidth",
            "Williams, Waterman, Patterson: Roofline (CACM 2009); decode at batch size 1 is "
            "bound by memory",
            formulas.not_in_timelines,
            beside=True,
            compared=False,
        ),
        Metric(
            "gpu_memory",
            "GPU memory",
            Unit.BYTES,
            Direction.LOWER,
            "gpu_memory",
            "most device memory the engine's process held during an iteration, over all its GPUs",
            f"{_NVML}, nvmlDeviceGetComputeRunningProcesses",
            formulas.not_in_timelines,
            beside=True,
            resolution=2.0**20,
        ),
        Metric(
            "energy_per_token",
            "energy/token",
            Unit.JOULES,
            Direction.LOWER,
            "energy_per_token",
            "energy of all GPUs over a process's counted iterations / their output tokens",
            f"{_NVML}, nvmlDeviceGetTotalEnergyConsumption",
            formulas.not_in_timelines,
            beside=True,
            resolution=1e-3,
        ),
        Metric(
            "gpu_power",
            "GPU power",
            Unit.WATTS,
            Direction.LOWER,
            "gpu_power",
            "mean power of all GPUs over a process's counted iterations",
            f"{_NVML}, nvmlDeviceGetTotalEnergyConsumption, else nvmlDeviceGetPowerUsage",
            formulas.not_in_timelines,
            beside=True,
            resolution=1.0,
        ),
        Metric(
            "gpu_utilization",
            "GPU busy",
            Unit.RATIO,
            Direction.HIGHER,
            "gpu_utilization",
            "mean share of time with a kernel running while decoding, over all GPUs",
            f"{_NVML}, nvmlDeviceGetUtilizationRates",
            formulas.not_in_timelines,
            beside=True,
            resolution=0.01,
        ),
    )
}

#: What a bare ``perf`` marker gates.
DEFAULT_GATED = ("tokens_per_sec", "first_token", "end_to_end")
#: What every perf test shows, gated or not, so that a loss is located.
ALWAYS_SHOWN = ("tokens_per_sec", "prefill_tokens_per_sec", "first_token", "end_to_end")


#: Metrics of which a percentile may be asked, as ``inter_token_p95``.
PERCENTILE_OF = ("inter_token", "first_token")
_PERCENTILE_NAME = re.compile(rf"({'|'.join(PERCENTILE_OF)})_p(\d{{1,2}}(?:\.\d{{1,2}})?)")


def percentile_parts(name: str) -> tuple[str, float] | None:
    """Split ``inter_token_p95`` into the metric's name and 95.0; None for any other name."""
    match = _PERCENTILE_NAME.fullmatch(name)
    return (match[1], float(match[2])) if match and float(match[2]) > 0 else None


def percentile_name(name: str, percent: float) -> str:
    """Name a percentile of a metric: ``inter_token_p95``."""
    return f"{name}_p{percent:g}"


@lru_cache(maxsize=64)
def _percentile_metric(name: str, of: str, percent: float) -> Metric:
    whole = METRICS[of]
    what = "the gaps t_{i+1} - t_i" if of == "inter_token" else "t_1 - t_start"
    return Metric(
        name,
        f"{whole.label} p{percent:g}",
        whole.unit,
        whole.direction,
        name,
        f"{percent:g}th percentile of {what}, pooled over a process's counted iterations",
        whole.source,
        formulas.not_in_timelines,
        kind="percentile",
    )


def known_metric(name: str) -> Metric | None:
    """Return the metric called ``name``, a percentile included; None where there is none (yet)."""
    metric = METRICS.get(name)
    if metric is None and (parts := percentile_parts(name)) is not None:
        return _percentile_metric(percentile_name(*parts), *parts)
    return metric


def get_metric(name: str) -> Metric:
    """Return the metric called ``name``, a percentile such as ``inter_token_p95`` included.

    Raises:
        UnknownMetricError: naming the nearest registered metrics.
    """
    metric = known_metric(name)
    if metric is None:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(METRICS)
        raise UnknownMetricError(f"unknown metric {name!r}{hint} (known: {known})")
    return metric


def compute_all(timelines: Sequence[Timeline]) -> dict[str, float]:
    """Compute every metric that is defined for one iteration's timelines, in base units."""
    return dict(_defined(timelines))


def _defined(timelines: Sequence[Timeline]) -> Iterator[tuple[str, float]]:
    for metric in METRICS.values():
        value = metric.compute(timelines)
        if value is not None:
            yield metric.name, value
