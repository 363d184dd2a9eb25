"""Modelled noise of engine processes: the regimes that the gate is simulated on.

Everything is a natural logarithm of a duration, so that positive is worse, an
effect of 5% is ``log(1.05)`` and effects add up. Five regimes differ in how much
sessions, processes and iterations spread and in the stalls that a neighbour on
the machine causes. The numbers of "quiet" come from a measured machine; the others
are assumed, from better to far worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Iterations that warm a process up: they do not count, but they take time, and a stall
#: that lasts may begin in them.
WARMUP = 2
#: Two pairs make a block of four processes, ABBA or BAAB.
BLOCK = 4
#: A stalled iteration takes this many times as long, uniformly.
STALL_FACTORS = (1.3, 4.5)


@dataclass(frozen=True)
class Regime:
    """One kind of machine.

    Attributes:
        name: as printed.
        session, process, iteration: standard deviations on the log scale.
        stalls: share of iterations that stall.
        burst: how many iterations a stall lasts on average (geometric), in time order.
    """

    name: str
    session: float
    process: float
    iteration: float
    stalls: float = 0.0
    burst: float = 1.0


REGIMES = (
    Regime("gpu", 0.003, 0.003, 0.005),
    Regime("quiet", 0.010, 0.012, 0.007),
    Regime("noisy", 0.020, 0.015, 0.020, stalls=0.02),
    Regime("bursty", 0.020, 0.015, 0.020, stalls=0.03, burst=8.0),
    Regime("very noisy", 0.040, 0.030, 0.040, stalls=0.05),
)
#: Pairs that take turns of tokens: quiet, and beside a process that takes a core in bursts.
TURNS = (
    Regime("turns of tokens", 0.010, 0.005, 0.0035),
    Regime("turns, neighbour", 0.020, 0.0065, 0.0035, stalls=0.02),
)
#: Such pairs on a host that is busy itself: they differ by 2.3%, more than a small tolerance.
TURNS_BUSY = Regime("turns, busy host", 0.020, 0.016, 0.0035, stalls=0.02)


@dataclass(frozen=True)
class Drift:
    """Effects that a randomised block must cancel.

    Attributes:
        per_process: slope, log duration per process in time order.
        carry_over: how much slower the second process of each pair is.
    """

    per_process: float = 0.0
    carry_over: float = 0.0


def stalled(
    rng: np.random.Generator, regime: Regime, shape: tuple[int, ...], *, lasting: bool = True
) -> Bools:
    """Return which iterations stall; the last axis is time.

    A two-state chain: a stall ends after each iteration with probability 1/burst. With
    ``lasting`` False each iteration stalls by itself, whatever the regime says.
    """
    if regime.stalls == 0.0:
        return np.zeros(shape, dtype=np.bool_)
    if regime.burst <= 1.0 or not lasting:
        return rng.random(shape) < regime.stalls
    end = 1.0 / regime.burst
    begin = end * regime.stalls / (1.0 - regime.stalls)
    draws = rng.random(shape)
    out = np.empty(shape, dtype=np.bool_)
    now = rng.random(shape[:-1]) < regime.stalls
    for step in range(shape[-1]):
        out[..., step] = now
        now = np.where(now, draws[..., step] >= end, draws[..., step] < begin)
    return out


def delays(rng: np.random.Generator, stalls: Bools) -> Floats:
    """Return the log delay of every iteration: zero where it did not stall."""
    out = np.zeros(stalls.shape)
    out[stalls] = np.log(rng.uniform(*STALL_FACTORS, int(stalls.sum())))
    return out


def in_time_order(
    rng: np.random.Generator, regime: Regime, repetitions: int, processes: int, iterations: int
) -> Floats:
    """Return counted iterations, (repetitions, processes, iterations), one after the other.

    Without session effects, which both sides of a session share.
    """
    per_process = WARMUP + iterations
    stalls = stalled(rng, regime, (repetitions, processes * per_process))
    counted = stalls.reshape(repetitions, processes, per_process)[..., WARMUP:]
    values = delays(rng, counted)
    values += rng.normal(0.0, regime.iteration, values.shape)
    values += rng.normal(0.0, regime.process, (repetitions, processes, 1))
    return values


def blocks(rng: np.random.Generator, repetitions: int, pairs: int, *, fixed: bool = False) -> Bools:
    """Return which of a pair's two processes is the candidate: (repetitions, pairs, 2).

    Blocks of two pairs in order ABBA or BAAB at random; ``fixed`` is AB AB AB ..., the
    order that does not cancel anything.
    """
    second = np.ones((repetitions, pairs), dtype=np.bool_)
    if not fixed:
        second[:, 0::2] = rng.random((repetitions, -(-pairs // 2))) < 0.5
        second[:, 1::2] = ~second[:, 0::2][:, : pairs // 2]
    return np.stack([~second, second], axis=-1)


def differences(
    rng: np.random.Generator,
    regime: Regime,
    repetitions: int,
    pairs: int,
    iterations: int,
    *,
    drift: Drift | None = None,
    fixed: bool = False,
) -> Floats:
    """Return d, (repetitions, pairs): log candidate minus log baseline, no true difference."""
    values = in_time_order(rng, regime, repetitions, 2 * pairs, iterations)
    medians = np.median(values, axis=-1)
    if drift is not None:
        medians += drift.per_process * np.arange(2 * pairs)
        medians[:, 1::2] += drift.carry_over
    paired = medians.reshape(repetitions, pairs, 2)
    candidate = blocks(rng, repetitions, pairs, fixed=fixed)
    later: Floats = paired[..., 1] - paired[..., 0]
    return np.where(candidate[..., 1], later, -later)


def scattered(
    rng: np.random.Generator, regime: Regime, shape: tuple[int, ...], iterations: int
) -> Floats:
    """Return counted iterations of processes between which other tests run: (*shape, iterations).

    A stall that lasts covers the iterations of one process, not those of the next.
    """
    hit = stalled(rng, regime, (*shape, WARMUP + iterations))[..., WARMUP:]
    values = delays(rng, hit)
    values += rng.normal(0.0, regime.iteration, values.shape)
    values += rng.normal(0.0, regime.process, (*shape, 1))
    return values


def session_processes(
    rng: np.random.Generator,
    regime: Regime,
    shape: tuple[int, ...],
    processes: int,
    iterations: int,
) -> Floats:
    """Return the process medians of sessions that each have a level: (*shape, processes)."""
    middle = np.median(scattered(rng, regime, (*shape, processes), iterations), axis=-1)
    level: Floats = rng.normal(0.0, regime.session, (*shape, 1))
    return middle + level
