"""Differences between two processes that took turns, from values measured next to each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

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
#: ``CLIP_SPREADS`` for values that are all of the same work, such as the times to the first token
#: of several replays: none of them is slower by itself, as some tokens of an answer are.
CLIP_SPREADS_ALIKE = 1.5
#: Outliers are a side's own work, not the machine's, if the machine would make such outliers in at
#: most one of so many pairs.
ONE_SIDED = 256
#: How much longer the turns of a replay take than one another by themselves: logarithms, by
#: position. A long context slows a step, and so do other requests.
Shape = tuple[float, ...]


def clipped_mean(values: Sequence[float], *, alike: bool = False) -> float:
    """Mean of logarithms, of which none counts for more than a limited distance from the median.

    Unlike a median or a trimmed mean it does not ignore what slows some of the turns only.
    ``alike``: all values are of the same work.
    """
    low, high = _clip_limits(values, alike=alike)
    return fmean(min(max(value, low), high) for value in values)


def _clip_limits(values: Sequence[float], *, alike: bool = False) -> tuple[float, float]:
    centre = median(values)
    spread = 1.4826 * median(abs(value - centre) for value in values)
    limit = CLIP_SPREADS_ALIKE * spread if alike else max(CLIP_MIN, CLIP_SPREADS * spread)
    return centre - limit, centre + limit


def kind_of_turns(metric: str, candidate: ProcessSample, base: ProcessSample) -> int:
    """How finely a pair's processes took turns: 2 by tokens, 1 by iterations, 0 not at all."""
    pair = candidate, base
    if all(one.turns is not None and one.turns.has(metric) for one in pair):
        return 2
    alike = len(candidate.row(metric)) == len(base.row(metric))
    return int(alike and all(one.has_neighbours(metric) for one in pair))


def shapes_of(pairs: Iterable[tuple[ProcessSample, ProcessSample]]) -> dict[int, Shape]:
    """Return the shape of a workload's decode, by the number of turns in a replay.

    Of all pairs together, because a neighbour may disturb the same turn in each replay of one.
    """
    levels: dict[int, list[list[float]]] = {}
    for candidate, base in pairs:
        if candidate.turns and base.turns and candidate.turns.decode and base.turns.decode:
            turns = candidate.turns.turns_per_replay()
            found = levels.setdefault(turns, [[] for _ in range(turns)])
            logs = _logs(candidate.turns.decode), _logs(base.turns.decode)
            for number, (a, b) in enumerate(zip(*logs, strict=False)):
                found[number % turns].append((a + b) / 2)
    return {turns: tuple(map(_fastest_quarter, found)) for turns, found in levels.items()}


def pair_difference(
    metric: Metric,
    candidate: ProcessSample,
    base: ProcessSample,
    shapes: Mapping[int, Shape] | None = None,
) -> float:
    """Difference of the two processes of a pair on the log scale; positive is worse.

    From neighbouring values if they took turns; otherwise of their medians.

    Args:
        metric: what is compared.
        candidate: the process to judge.
        base: the other process of its pair.
        shapes: of all pairs; None: of this pair alone.

    Raises:
        ValueError: a sample that the metric can't have, or none.
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
        return median(metric.badness(a) - metric.badness(b) for a, b in neighbours)
    return metric.badness(medians[0]) - metric.badness(medians[1])


def _in_turns(metric: Metric, candidate: TurnSamples, base: TurnSamples, shape: Shape) -> float:
    if metric.name in DECODE_METRICS:
        return _compared(_logs(candidate.decode), _logs(base.decode), shape).difference
    if metric.name == WHOLE:
        return _end_to_end(candidate, base, shape)
    own, other = (list(map(metric.badness, side.values[metric.name])) for side in (candidate, base))
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
    """Compare neighbouring turns on the log scale, where nothing disturbed them.

    A disturbed turn is recognised by the mean of both sides, which treats them alike: leaving it
    out favours neither. Outliers of one side alone are its own work, such as that of every 16th
    token, and count in full: as in the ratio of the sides' whole times.
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
    """Whether outliers favour one side more than a machine that hits both as often would.

    ``outliers``: by turn, 1 where the candidate's is one, -1 where the base's is, else 0.
    """
    slower, faster = outliers.count(1), outliers.count(-1)
    count, most = slower + faster, max(slower, faster)
    ways, found = math.comb(count, most), 0
    for more in range(most, count + 1):
        found += ways
        if found * ONE_SIDED > 2**count:
            return False
        ways = ways * (count - more) // (more + 1)
    return True


def _recurs(outliers: Sequence[int], turns: int) -> bool:
    """Whether a turn is the same side's outlier in each replay, which is too rare by chance.

    ``turns``: of a replay. If outliers came at random, so many of them would be in one turn of
    every replay, all of one side, with a chance of at most 2 * turns * (share / 2) ** replays.
    """
    replays = len(outliers) // turns
    share = sum(map(abs, outliers)) / len(outliers)
    by_turn = [outliers[turn::turns] for turn in range(turns)]
    recur = any(abs(sum(found)) == len(found) for found in by_turn)
    return recur and 2 * turns * (share / 2) ** replays * ONE_SIDED <= 1


def _end_to_end(candidate: TurnSamples, base: TurnSamples, shape: Shape) -> float:
    """Difference of the whole: of its parts, weighed by the base's seconds of each.

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
    """Return the level below which a quarter of the turns are; of less than five the lowest."""
    return sorted(levels)[(len(levels) - 1) // 4]
