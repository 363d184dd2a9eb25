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

    ``log_e``: the largest ln E that each check has reached so far. In descending order,
    check r (from 0) is rejected if it and all checks before it reach ln((m-r) / alpha). A
    rejected check gets the level that rejected it, every other check ln((m-rejected) /
    alpha). ``eligible`` False keeps a check from being rejected, and thus from loosening
    the level of others, whatever its evidence.

    A session raises any false alarm with a probability of at most ``alpha``: take the first
    true null that is rejected. Only false nulls came before it, so it had to reach at
    least ln(m0 / alpha), with m0 the number of true nulls. By Ville's inequality the running
    maximum of one e-process ever does so with a probability of at most alpha / m0; the
    union over m0 of them is at most alpha. Neither independence nor a common stopping time
    is needed. Sources: Holm (1979); Ville (1939); Vovk and Wang (2021), E-values.

    Raises:
        ValueError: ``alpha`` is not inside (0, 1).
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"a false-alarm rate must lie inside (0, 1), got {alpha}")
    evidence = np.array(log_e, dtype=np.float64)
    m = evidence.shape[-1]
    if m == 0:
        return evidence
    if eligible is not None:
        evidence[~np.broadcast_to(eligible, evidence.shape)] = -math.inf
    order = np.argsort(-evidence, axis=-1, kind="stable")
    steps = np.log(np.arange(m, 0, -1.0)) - math.log(alpha)
    reached = np.take_along_axis(evidence, order, axis=-1) >= steps
    rejected = np.logical_and.accumulate(reached, axis=-1)
    count = np.sum(rejected, axis=-1, keepdims=True)
    # If every check is rejected, the last entry is unused.
    remaining = steps[np.minimum(count, m - 1)]
    levels = np.empty_like(evidence)
    np.put_along_axis(levels, order, np.where(rejected, steps, remaining), axis=-1)
    return levels
