"""Differences between two processes that took turns, from values measured side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

from pytest_llmperf.measure.process_sample import DECODE_METRICS, WHOLE, ProcessSample, TurnSamples
from pytest_llmperf.metrics import Metric
from pytest_llmperf.stats.summary import process_medians

#: A turn counts if both sides together were slower than the machine's best by less than this, on
#: the log scale; its best is the level of the fastest quarter of the turns.
UNDISTURBED = 0.2
#: Values are clipped at this distance from the median: at least so much on the log scale, and so
#: many robust standard deviations. A disturbance that begins or ends within a turn hits one side.
CLIP_MIN, CLIP_SPREADS = 0.15, 3.0
#: ``CLIP_SPREADS`` for values of the same work, such as the times to the first token of several
#: replays: none of them is inherently slower, as some tokens of an answer are.
CLIP_SPREADS_ALIKE = 1.5
#: Outliers come from a side's own work, not from the machine, if the machine would cause such
#: outliers in at most one of this many pairs.
ONE_SIDED = 256
#: How much longer each turn of a replay takes by nature: logarithms, by position of the turn.
#: A long context slows a step, and so do other requests.
Shape = tuple[float, ...]


def clipped_mean(values: Sequence[float], *, alike: bool = False) -> float:
    """Return the mean of logarithms, each clipped to a limited distance from the median.

    Unlike a median or a trimmed mean, it does not ignore a slowdown of only some turns.
    ``alike``: whether all values measure the same work.
    """
    low, high = _clip_limits(values, alike=alike)
    return fmean(min(max(value, low), high) for value in values)


def _clip_limits(values: Sequence[float], *, alike: bool = False) -> tuple[float, float]:
    centre = median(values)
    spread = 1.4826 * median(abs(value - centre) for value in values)
    limit = CLIP_SPREADS_ALIKE * spread if alike else max(CLIP_MIN, CLIP_SPREADS * spread)
    return centre - limit, centre + limit


def kind_of_turns(metric: str, candidate: ProcessSample, base: ProcessSample) -> int:
    """Return how finely a pair took turns: 2 by tokens, 1 by iterations, 0 not at all."""
    pair = candidate, base
    if all(half.turns is not None and half.turns.has(metric) for half in pair):
        return 2
    alike = len(candidate.row(metric)) == len(base.row(metric))
    return int(alike and all(half.has_neighbours(metric) for half in pair))


def shapes_of(pairs: Iterable[tuple[ProcessSample, ProcessSample]]) -> dict[int, Shape]:
    """Return the shape of a workload's decode, by the number of turns in a replay.

    All pairs contribute, because each replay of a single pair may be disturbed in the same turn.
    """
    levels: dict[int, list[list[float]]] = {}
    for candidate, base in pairs:
        if candidate.turns and base.turns and candidate.turns.decode and base.turns.decode:
            turns = candidate.turns.turns_per_replay()
            by_turn = levels.setdefault(turns, [[] for _ in range(turns)])
            logs = _logs(candidate.turns.decode), _logs(base.turns.decode)
            for number, (a, b) in enumerate(zip(*logs, strict=False)):
                by_turn[number % turns].append((a + b) / 2)
    return {turns: tuple(map(_fastest_quarter, values)) for turns, values in levels.items()}


def pair_difference(
    metric: Metric,
    candidate: ProcessSample,
    base: ProcessSample,
    shapes: Mapping[int, Shape] | None = None,
) -> float:
    """Return the difference of the processes of a pair on the log scale; positive is worse.

    Neighbouring values are compared if they took turns, otherwise their medians.

    Args:
        metric: the metric to compare.
        candidate: the process to judge.
        base: the other process of its pair.
        shapes: shapes of all pairs; None: only this pair's.

    Raises:
        ValueError: there is no sample, or one that the metric can't have.
    """
    kind = kind_of_turns(metric.name, candidate, base)
    if kind == 2 and candidate.turns is not None and base.turns is not None:
        shapes = shapes_of([(candidate, base)]) if shapes is None else shapes
        shape = shapes.get(candidate.turns.turns_per_replay(), (0.0,))
        return _in_turns(metric, candidate.turns, base.turns, shape)
    rows = candidate.row(metric.name), base.row(metric.name)
    medians = process_medians(rows, metric.resolution)
    if kind == 1:
        neighbours = zip(*rows, strict=True)
        return median(metric.signed_log(a) - metric.signed_log(b) for a, b in neighbours)
    return metric.signed_log(medians[0]) - metric.signed_log(medians[1])


def _in_turns(metric: Metric, candidate: TurnSamples, base: TurnSamples, shape: Shape) -> float:
    if metric.name in DECODE_METRICS:
        return _compared(_logs(candidate.decode), _logs(base.decode), shape).difference
    if metric.name == WHOLE:
        return _end_to_end(candidate, base, shape)
    own, other = (
        list(map(metric.signed_log, side.values[metric.name])) for side in (candidate, base)
    )
    return _compared(own, other, alike=True).difference


class _Compared(NamedTuple):
    """Difference of two sides on the log scale, and the base's mean seconds of a turn."""

    difference: float
    base_seconds: float


def _compared(
    candidate: Sequence[float],
    base: Sequence[float],
    shape: Shape = (0.0,),
    *,
    alike: bool = False,
) -> _Compared:
    """Compare neighbouring undisturbed turns on the log scale.

    A disturbed turn is recognised by the mean of both sides, so leaving it out favours neither.
    Outliers of one side alone come from its own work, such as extra work at every 16th token, and
    count in full: then the result is the ratio of the sides' total times.
    """
    pairs = list(zip(candidate, base, strict=False))
    levels = [(a + b) / 2 - shape[n % len(shape)] for n, (a, b) in enumerate(pairs)]
    limit = _fastest_quarter(levels) + UNDISTURBED
    kept = [pair for pair, level in zip(pairs, levels, strict=True) if level < limit]
    low, high = _clip_limits([a - b for a, b in kept])
    outliers = [(a - b > high) - (a - b < low) for a, b in pairs]
    if _is_one_sided(outliers) or _recurs(outliers, len(shape)):
        own, other = (sum(map(math.exp, side)) for side in zip(*pairs, strict=True))
        return _Compared(math.log(own / other), other / len(pairs))
    seconds = [math.exp(b) for a, b in kept if low <= a - b <= high]
    return _Compared(clipped_mean([a - b for a, b in kept], alike=alike), fmean(seconds))


def _is_one_sided(outliers: Sequence[int]) -> bool:
    """Whether outliers lean to one side more than by chance, if the machine hit both alike.

    ``outliers``: by turn, 1 for an outlier of the candidate, -1 for one of the base, else 0.
    """
    slower, faster = outliers.count(1), outliers.count(-1)
    count, most = slower + faster, max(slower, faster)
    ways, total = math.comb(count, most), 0
    for more in range(most, count + 1):
        total += ways
        if total * ONE_SIDED > 2**count:
            return False
        ways = ways * (count - more) // (more + 1)
    return True


def _recurs(outliers: Sequence[int], turns: int) -> bool:
    """Whether the same turn is an outlier of the same side in every replay, and not by chance.

    ``turns``: number of turns in a replay. If outliers were random, the chance of such a turn
    would be at most 2 * turns * (share / 2) ** replays.
    """
    replays = len(outliers) // turns
    share = sum(map(abs, outliers)) / len(outliers)
    by_turn = [outliers[turn::turns] for turn in range(turns)]
    recur = any(abs(sum(signs)) == len(signs) for signs in by_turn)
    return recur and 2 * turns * (share / 2) ** replays * ONE_SIDED <= 1


def _end_to_end(candidate: TurnSamples, base: TurnSamples, shape: Shape) -> float:
    """Return the end-to-end difference: that of the parts, weighted by the base's seconds.

    With ``F`` and ``D`` for the base's seconds to the first token and of decode, and ``f`` and
    ``d`` for the parts' differences: ``ln((F exp(f) + D exp(d)) / (F + D))``.
    """
    first = _compared(_logs(candidate.first_tokens), _logs(base.first_tokens), alike=True)
    if not base.steps:
        return first.difference
    decode = _compared(_logs(candidate.decode), _logs(base.decode), shape)
    seconds = [first.base_seconds, decode.base_seconds * base.steps]
    slower = seconds[0] * math.exp(first.difference) + seconds[1] * math.exp(decode.difference)
    return math.log(slower / sum(seconds))


def _logs(values: Iterable[float]) -> list[float]:
    return [math.log(value) for value in values]


def _fastest_quarter(levels: Sequence[float]) -> float:
    """Return the level below which a quarter of the turns lie; the lowest of fewer than five."""
    return sorted(levels)[(len(levels) - 1) // 4]
