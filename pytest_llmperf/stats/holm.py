"""Holm's step-down rule, which shares a false-alarm rate among the checks of a session."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]


def alarm_levels(
    log_e: ArrayLike, alpha: float, eligible: NDArray[np.bool_] | None = None
) -> Array:
    """Return the ln E that each check of a session has to reach; shape (..., m) -> (..., m).

    ``log_e``: the largest ln E each check has reached so far. Sorted from the largest,
    check r (from 0) is rejected if it and all before it reach ln((m-r) / alpha). A
    rejected check gets the level that rejected it, every other one ln((m-rejected) /
    alpha). ``eligible`` False keeps a check from being rejected, and so from loosening
    the level of others, at any evidence.

    A session raises any false alarm with at most probability ``alpha``: take the first
    true null that is rejected. Only false nulls went before it, so it had to reach at
    least ln(m0 / alpha), m0 the number of true nulls. By Ville's inequality the running
    maximum of one e-process ever does so with at most probability alpha / m0; the union
    over m0 of them is at most alpha. Neither independence nor a common stopping time
    is needed. Sources: Holm (1979); Ville (1939); Vovk and Wang (2021), E-values.

    Raises:
        ValueError: ``alpha`` is not inside (0, 1).
    """
    evidence = np.array(log_e, dtype=np.float64)
    if eligible is not None:
        evidence[~np.broadcast_to(eligible, evidence.shape)] = -math.inf
    return -_log_shares(-evidence, alpha)


def p_levels(p: ArrayLike, alpha: float, eligible: NDArray[np.bool_] | None = None) -> Array:
    """Return the share of ``alpha`` that bounds each check's p-value; (..., m) -> (..., m).

    The same rule on p-values: a check is rejected where p <= its share. Source: Holm (1979).

    Raises:
        ValueError: ``alpha`` is not inside (0, 1).
    """
    values = np.array(p, dtype=np.float64)
    if eligible is not None:
        values[~np.broadcast_to(eligible, values.shape)] = math.inf
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    return np.asarray(np.exp(_log_shares(logs, alpha)))


def _log_shares(log_p: Array, alpha: float) -> Array:
    """ln(alpha share) of each check, smallest ``log_p`` first; shape (..., m) -> (..., m)."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"a false-alarm rate must lie inside (0, 1), got {alpha}")
    m = log_p.shape[-1]
    if m == 0:
        return np.zeros_like(log_p)
    order = np.argsort(log_p, axis=-1, kind="stable")
    shares = math.log(alpha) - np.log(np.arange(m, 0, -1.0))
    reached = np.take_along_axis(log_p, order, axis=-1) <= shares
    rejected = np.logical_and.accumulate(reached, axis=-1)
    count = np.sum(rejected, axis=-1, keepdims=True)
    # If every check is rejected, the last entry is unused.
    rest = shares[np.minimum(count, m - 1)]
    levels = np.empty_like(log_p)
    np.put_along_axis(levels, order, np.where(rejected, shares, rest), axis=-1)
    return levels
