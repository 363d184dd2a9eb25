"""Differences between two processes that took turns, from values measured next to each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median

from pytest_llmperf.measure.process_sample import (
    DECODE_METRICS,
    WHOLE,
    ProcessSample,
    TurnSamples,
)
from pytest_llmperf.metrics import Metric
from pytest_llmperf.stats.summary import process_medians

#: Turns count where both sides together were slower than at the machine's best by less than this,
#: on the log scale; its best is the fastest quarter of the turns.
UNDISTURBED = 0.2
#: Distance from the middle beyond which a value counts no more, on the log scale, at least; and in
#: robust standard deviations. A disturbance that begins or ends within a turn hits one side alone.
CLIP_MIN, CLIP_SPREADS = 0.15, 3.0
#: Outliers are a side's own work, not the machine's, if they favour one side as strongly as a fair
#: coin does with at most this chance: 8 of 8, 11 of 12.
ONE_SIDED = 1.0 / 256.0


def clipped_mean(values: Sequence[float]) -> float:
    """Mean of logarithms, of which none counts for more than a limited distance from the median.

    Unlike a median or a trimmed mean it does not ignore what slows some of the turns only.
    """
    low, high = _clip_limits(values)
    return fmean(min(max(value, low), high) for value in values)


def _clip_limits(values: Sequence[float]) -> tuple[float, float]:
    centre = median(values)
    spread = 1.4826 * median(abs(value - centre) for value in values)
    limit = max(CLIP_MIN, CLIP_SPREADS * spread)
    return centre - limit, centre + limit


def kind_of_turns(metric: str, candidate: ProcessSample, base: ProcessSample) -> int:
    """How finely a pair's processes took turns: 2 by tokens, 1 by iterations, 0 not at all."""
    pair = candidate, base
    if all(one.turns is not None and one.turns.has(metric) for one in pair):
        return 2
    alike = len(candidate.row(metric)) == len(base.row(metric))
    return int(alike and all(one.has_neighbours(metric) for one in pair))


def pair_difference(metric: Metric, candidate: ProcessSample, base: ProcessSample) -> float:
    """Difference of the two processes of a pair on the log scale; positive is worse.

    From neighbouring values if they took turns; otherwise of their medians.

    Raises:
        ValueError: a sample that the metric can't have, or none.
    """
    kind = kind_of_turns(metric.name, candidate, base)
    if kind == 2 and candidate.turns is not None and base.turns is not None:
        return _in_turns(metric, candidate.turns, base.turns)
    rows = candidate.row(metric.name), base.row(metric.name)
    medians = process_medians(rows, metric.resolution)
    if kind == 1:
        neighbours = zip(*rows, strict=True)
        return median(metric.badness(a) - metric.badness(b) for a, b in neighbours)
    return metric.badness(medians[0]) - metric.badness(medians[1])


def _in_turns(metric: Metric, candidate: TurnSamples, base: TurnSamples) -> float:
    if metric.name in DECODE_METRICS:
        return _mean_log_ratio(candidate.decode, base.decode)
    if metric.name == WHOLE:
        return _end_to_end(candidate, base)
    values = candidate.values[metric.name], base.values[metric.name]
    return _mean_difference(*(list(map(metric.badness, side)) for side in values))


def _mean_log_ratio(candidate: Sequence[float], base: Sequence[float]) -> float:
    return _mean_difference(list(map(math.log, candidate)), list(map(math.log, base)))


def _mean_difference(candidate: Sequence[float], base: Sequence[float]) -> float:
    """Mean difference of neighbouring turns on the log scale, where nothing disturbed them.

    A disturbed turn is recognised by the mean of both sides, which treats them alike: leaving it
    out favours neither. The machine hits either side as often. Outliers of one side alone are
    its own work, such as that of every 16th token, and count in full: as in the ratio of the
    sides' whole times.
    """
    pairs = list(zip(candidate, base, strict=False))
    levels = [(a + b) / 2 for a, b in pairs]
    limit = sorted(levels)[(len(levels) - 1) // 4] + UNDISTURBED
    every = [a - b for a, b in pairs]
    kept = [d for d, level in zip(every, levels, strict=True) if level < limit]
    low, high = _clip_limits(kept)
    if _is_one_sided([d > high for d in every if not low <= d <= high]):
        return _log_total(a for a, _ in pairs) - _log_total(b for _, b in pairs)
    return clipped_mean(kept)


def _is_one_sided(slower: Sequence[bool]) -> bool:
    """Whether outliers favour one side more than a machine that hits both as often would."""
    count, most = len(slower), max(sum(slower), len(slower) - sum(slower))
    return sum(math.comb(count, k) for k in range(most, count + 1)) <= math.ldexp(ONE_SIDED, count)


def _log_total(logs: Iterable[float]) -> float:
    return math.log(math.fsum(map(math.exp, logs)))


def _end_to_end(candidate: TurnSamples, base: TurnSamples) -> float:
    """Difference of the whole: of its parts, weighed by the base's seconds of each.

    With ``F`` and ``D`` for the base's seconds to the first token and of decode, and ``f`` and
    ``d`` for the parts' differences: ``ln((F exp(f) + D exp(d)) / (F + D))``.
    """
    first = _mean_log_ratio(candidate.first_tokens, base.first_tokens)
    if not base.steps:
        return first
    decode = _mean_log_ratio(candidate.decode, base.decode)
    first_seconds = _level(base.first_tokens)
    decode_seconds = _level(base.decode) * base.steps
    slower = first_seconds * math.exp(first) + decode_seconds * math.exp(decode)
    return math.log(slower / (first_seconds + decode_seconds))


def _level(seconds: Sequence[float]) -> float:
    return math.exp(clipped_mean([math.log(value) for value in seconds]))
