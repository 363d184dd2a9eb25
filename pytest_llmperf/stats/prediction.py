"""Prediction of one more session from K stored sessions, and the test for creeping.

All values are natural logarithms, signed so that positive is worse, one per session.
The spread between sessions is part of the noise. K sessions estimate it poorly,
so it is combined with a prior of ``PRIOR_SD`` worth ``PRIOR_DF`` degrees of freedom.

Sources: Hahn and Meeker (1991), Statistical Intervals (prediction of one future
observation); von Neumann (1941), mean square successive differences; Gelman et al.
(2013), Bayesian Data Analysis, 2.6 (scaled inverse chi-squared prior).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_llmperf.stats.paired import Zone
from pytest_llmperf.stats.student import t_quantile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

#: Prior for the spread between sessions (natural log), and its weight in degrees of freedom.
PRIOR_SD = 0.02
PRIOR_DF = 3
#: Largest logarithm whose exponential a float is sure to hold.
_LARGEST = 700.0


@dataclass(frozen=True)
class Prediction:
    """Predicted distribution of one more session if nothing changed; batch shapes allowed.

    Attributes:
        centre: mean of the stored sessions.
        se: standard error of (one more session - centre).
        df: degrees of freedom of ``se``.
    """

    centre: Array
    se: Array
    df: int

    def upper(self, value: Array | float, level: float) -> Array:
        """Return the one-sided upper bound, at confidence ``level``, of ``value``'s slowdown."""
        return np.asarray(value - self.centre + t_quantile(level, self.df) * self.se)

    def lower(self, value: Array | float, level: float) -> Array:
        """Return the one-sided lower bound, at confidence ``level``, of ``value``'s slowdown."""
        return np.asarray(value - self.centre - t_quantile(level, self.df) * self.se)

    def p_worse(self, value: Array | float, theta0: float) -> Array:
        """Return the one-sided p-value of "the slowdown is at most ``theta0``" (natural log)."""
        return upper_tail(np.asarray((value - self.centre - theta0) / self.se), self.df)


@dataclass(frozen=True)
class Creep:
    """Slowdown of the recent sessions against the anchor sessions; batch shapes allowed.

    Attributes:
        slowdown: mean of the recent sessions - mean of the anchor sessions (natural log).
        se: its standard error.
        df: degrees of freedom of ``se``.
    """

    slowdown: Array
    se: Array
    df: int

    def upper(self, level: float) -> Array:
        """Return the one-sided upper bound of the slowdown at confidence ``level``."""
        return np.asarray(self.slowdown + t_quantile(level, self.df) * self.se)

    def lower(self, level: float) -> Array:
        """Return the one-sided lower bound of the slowdown at confidence ``level``."""
        return np.asarray(self.slowdown - t_quantile(level, self.df) * self.se)

    def p_worse(self, theta0: float) -> Array:
        """Return the one-sided p-value of "the slowdown is at most ``theta0``" (natural log)."""
        return upper_tail(np.asarray((self.slowdown - theta0) / self.se), self.df)


def predict(
    sessions: ArrayLike, *, prior_sd: float = PRIOR_SD, extra: ArrayLike = 0.0
) -> Prediction:
    """Predict one more session from K stored sessions; shape (..., K), natural logs.

    s^2 = (PRIOR_DF * prior_sd^2 + (K-1) * var) / df with df = PRIOR_DF + K - 1, and
    se^2 = s^2 * (1 + 1/K) + ``extra``: additional variance of the new session, (...).

    Raises:
        ValueError: there is no session.
    """
    values = np.asarray(sessions, dtype=np.float64)
    count = values.shape[-1]
    if count < 1:
        raise ValueError("no stored session to predict from")
    centre = np.mean(values, axis=-1)
    df = PRIOR_DF + count - 1
    spread = np.sum((values - centre[..., None]) ** 2, axis=-1)
    variance = (PRIOR_DF * prior_sd**2 + spread) / df
    se = np.sqrt(variance * (1.0 + 1.0 / count) + np.asarray(extra, dtype=np.float64))
    return Prediction(centre, se, df)


def decides_from(prediction: Prediction, tolerance: float, alpha: float) -> Array:
    """Return the smallest true slowdown (fraction) called in at least half of all sessions.

    A call needs p <= ``alpha`` against the negligible slowdown, and a measured slowdown
    of at least 0.8 * ``tolerance``. 0.05 is 5% more time.
    """
    zone = Zone.of(tolerance)
    threshold = zone.negligible + t_quantile(1.0 - alpha, prediction.df) * prediction.se
    return np.asarray(np.expm1(np.clip(threshold, zone.min_called, _LARGEST)))


def passes_up_to(prediction: Prediction, tolerance: float, level: float) -> Array:
    """Return the largest measured slowdown (fraction) whose bound stays under ``tolerance``.

    Negative if even an unchanged measurement does not pass.
    """
    margin = t_quantile(level, prediction.df) * prediction.se
    return np.asarray(np.expm1(Zone.of(tolerance).tolerance - margin))


def creep(anchor: ArrayLike, recent: ArrayLike) -> Creep:
    """Compare the level of R recent sessions with the level of A anchor sessions.

    ``anchor``: (..., A), ``recent``: (..., R) including the current session, both in time
    order and without a common session; natural logs. The noise is pooled from the
    successive differences inside each group, which neither a trend nor the step from
    the anchor to now inflates, and se^2 = s^2 * (1/A + 1/R).

    Raises:
        ValueError: a group has no sessions.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in (anchor, recent)]
    if any(group.shape[-1] < 1 for group in groups):
        raise ValueError("creeping needs at least one anchor session and one recent one")
    counts = [group.shape[-1] for group in groups]
    dfs = [_successive_df(count) for count in counts]
    weighted = sum(
        _successive_squares(group) * (df / max(count - 1, 1))
        for group, df, count in zip(groups, dfs, counts, strict=True)
    )
    variance = (PRIOR_DF * PRIOR_SD**2 + weighted) / (PRIOR_DF + sum(dfs))
    se = np.sqrt(variance * sum(1.0 / count for count in counts))
    slowdown = np.mean(groups[1], axis=-1) - np.mean(groups[0], axis=-1)
    # Rounded down: the quantiles take whole degrees of freedom only.
    return Creep(slowdown, np.asarray(se), PRIOR_DF + math.floor(sum(dfs)))


def upper_tail(t: Array | float, df: int) -> Array:
    """Return P(T >= t) for Student's t with an integer ``df`` degrees of freedom; any shape.

    Source: Abramowitz and Stegun 26.7.3 and 26.7.4, as in ``student.t_cdf``.
    """
    theta = np.arctan(np.asarray(t, dtype=np.float64) / math.sqrt(df))
    cosine = np.cos(theta)
    term = np.array(cosine if df % 2 else np.ones_like(theta))
    total = np.zeros_like(theta)
    for k in range(3, df + 1, 2) if df % 2 else range(2, df + 1, 2):
        total += term
        term *= cosine * cosine * ((k - 1) / k)
    central = np.sin(theta) * total
    if df % 2:
        central = 2.0 / math.pi * (theta + central)
    # Rounding can push a far tail below zero.
    return np.asarray(np.maximum(0.5 - 0.5 * central, 0.0))


def _successive_squares(values: Array) -> Array:
    """Return half the sum of squared successive differences, shape (..., K) -> (...)."""
    return np.asarray(np.sum(np.diff(values, axis=-1) ** 2, axis=-1) / 2.0)


def _successive_df(count: int) -> float:
    """Return the degrees of freedom of the successive-difference variance of ``count`` values.

    For Gaussian values, its own variance is sigma^4 (3K-4) / (K-1)^2 (von Neumann 1941), and
    that of a chi-squared estimate is 2 sigma^4 / df.
    """
    return 2.0 * (count - 1) ** 2 / (3.0 * count - 4.0) if count > 1 else 0.0
