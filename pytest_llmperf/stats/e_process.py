"""A t-statistic e-process: evidence that a mean is above zero, valid at any number of looks.

For x_1 ... x_n ~ Normal(delta * sigma, sigma^2) the likelihood ratio of
an effect ``delta`` to no effect, with the unknown ``sigma`` integrated
out under its right Haar measure, depends on the data only through

    u = sqrt(n) * mean(x) / sqrt(sum x^2),   -1 <= u <= 1,

and is exp(-n delta^2 / 2) * M_n(delta sqrt(n) u), M_n(a) = E[exp(a S)], S ~ chi_n.
That equals the ratio of the noncentral to the central t density with n-1 degrees
of freedom at t = sqrt(n) * mean / sd. Mixed over delta with a density w, it is a
nonnegative martingale in n if the true mean is zero. Under a negative mean it stays
below the martingale of the data shifted up to mean zero, because a shift up raises t
and E rises with t. So P(sup_n E_n >= c) <= 1/c (Ville).

Every w is valid; the choice decides which effects are detected soonest. Here ln delta =
0.5 + 0.6 T, where T has Student's t distribution with 3 degrees of freedom: half of
the weight lies between 1.0 and 2.6 standard deviations, where a slowdown of 5% lies
if pairs differ by 1.5 to 4%, and the tail is heavy, so that a clear effect is detected
quickly. It is cut off at delta = exp(-4) and 1000 and not renormalised: omitting part of
a nonnegative mixture can only make it smaller, so it remains an e-process.

Sources: Lai (1976), On confidence sequences; Wang and Ramdas (2024), Anytime-valid
t-tests and confidence sequences for Gaussian means with unknown variance; Rouder
et al. (2009), Bayesian t tests (a heavy-tailed weight on the standardised effect).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

#: Minimum number of observations for evidence: two can agree by chance.
MIN_PAIRS = 3
#: Smallest and largest standardised effect in the mixture.
MIN_EFFECT, MAX_EFFECT = math.exp(-4.0), 1000.0
#: Centre and scale of ln(effect) in the mixture.
MIXTURE_CENTRE, MIXTURE_SCALE = 0.5, 0.6

#: Range of the table's coordinate z = atanh(u) = asinh(t / sqrt(n-1)), in which ln E becomes a
#: straight line of slope n-2 for large t, until the cut-off at MAX_EFFECT bends it flat.
_TABLE_LOW, _TABLE_HIGH = -5.0, 14.0
#: Values of u evaluated at once; each takes a few hundred floats per intermediate array.
_ROWS = 4096
_RULE_POINTS = 24


def direction(x: ArrayLike) -> Array:
    """Return u = sqrt(n) * mean / sqrt(sum x^2) along the last axis; (..., n) -> (...).

    x is first scaled by the largest |x|, so that tiny and huge values neither vanish
    nor overflow; u is 0 where every x is 0.
    """
    values = np.asarray(x, dtype=np.float64)
    largest = np.max(np.abs(values), axis=-1, keepdims=True, initial=0.0)
    scaled = values / np.where(largest > 0.0, largest, 1.0)
    squares = np.sum(scaled * scaled, axis=-1)
    u = np.sum(scaled, axis=-1) / np.sqrt(values.shape[-1] * np.where(squares > 0, squares, 1.0))
    return np.asarray(np.clip(u, -1.0, 1.0))


def log_e(n: int, u: ArrayLike) -> Array:
    """Return the natural log of the evidence for a positive mean; any shape of ``u`` in [-1, 1].

    The relative error of E is below 1e-6 for n up to 400. Zero (no evidence) for n < 2.
    For many values of ``u``, use ``tabulated``.
    """
    values = np.asarray(u, dtype=np.float64)
    if n < 2:
        return np.zeros_like(values)
    flat = np.clip(values, -1.0, 1.0).ravel()
    result = np.empty_like(flat)
    for sign, evaluate in ((flat >= 0.0, _log_e_towards), (flat < 0.0, _log_e_away)):
        where = np.flatnonzero(sign)
        for start in range(0, where.size, _ROWS):
            rows = where[start : start + _ROWS]
            result[rows] = evaluate(n, flat[rows])
    return result.reshape(values.shape)


@lru_cache(maxsize=512)
def tabulated(n: int) -> Callable[[ArrayLike], Array]:
    """Return ``log_e(n, .)`` as an interpolated function: error below 0.003 where ln E > -3.

    It is piecewise cubic (Lagrange on the four nearest nodes) in atanh(u).
    """
    if n < 2:
        return lambda u: log_e(n, u)
    # The bend sharpens with n, so the nodes move closer to limit the cubic's error.
    step = 0.22 / n**0.25 / max(1.0, n / 60.0) ** 0.375
    nodes = np.arange(_TABLE_LOW, _TABLE_HIGH + step, step)
    f = log_e(n, np.tanh(nodes))
    before, at, after, later = f[:-3], f[1:-2], f[2:-1], f[3:]
    # Powers of the position between the nodes `at` (0) and `after` (1).
    cubic = np.stack(
        [
            at,
            after - before / 3.0 - at / 2.0 - later / 6.0,
            (before + after) / 2.0 - at,
            (at - after) / 2.0 + (later - before) / 6.0,
        ],
        axis=-1,
    )
    lowest, highest = np.tanh(nodes[0]), np.tanh(nodes[-1])

    def interpolate(u: ArrayLike) -> Array:
        z = np.arctanh(np.minimum(np.maximum(u, lowest), highest))
        position = (z - nodes[1]) / step
        cell = np.minimum(np.maximum(position, 0.0), len(cubic) - 1).astype(np.intp)
        position = position - cell
        c = cubic[cell]
        return np.asarray(
            c[..., 0] + position * (c[..., 1] + position * (c[..., 2] + position * c[..., 3])),
            dtype=np.float64,
        )

    return interpolate


@lru_cache(maxsize=4096)
def critical_t(n: int, log_threshold: float) -> float:
    """Return the t = sqrt(n) * mean / sd at which ln E reaches ``log_threshold``.

    ln E increases with t, so "ln E >= threshold" and "t >= critical_t" are equivalent.
    ``math.inf`` if no t is enough (n < 3, or the threshold exceeds the evidence that the
    cut-off mixture can give), ``-math.inf`` if every t is.
    """
    if n < MIN_PAIRS or float(log_e(n, 1.0)) < log_threshold:
        return math.inf
    if float(log_e(n, -1.0)) >= log_threshold:
        return -math.inf
    low, high = -18.0, 18.0
    # 33 points at a time: few calls, each as cheap as a single point. The last cell is 3e-5
    # wide, and ln E is a straight line in it.
    for _ in range(4):
        z = np.linspace(low, high, 33)
        values = log_e(n, np.tanh(z))
        cell = int(np.clip(np.searchsorted(values, log_threshold), 1, 32))
        low, high = float(z[cell - 1]), float(z[cell])
    below, above = float(values[cell - 1]), float(values[cell])
    share = (log_threshold - below) / (above - below) if above > below else 0.0
    return math.sqrt(n - 1) * math.sinh(low + share * (high - low))


def _log_e_towards(n: int, u: Array) -> Array:
    """Return ln E for u >= 0, shape (rows,): quadrature over delta of a positive recurrence."""
    delta, log_weight = _effects(n)
    a = math.sqrt(n) * u[:, None] * delta
    # -n delta^2 / 2 plus the a^2 / 2 inside M_n, combined before exponentiation.
    exponent = (-0.5 * n * ((1.0 - u) * (1.0 + u)))[:, None] * (delta * delta)
    terms = exponent + log_weight + _log_tilted_moment(n, a)
    top = np.max(terms, axis=1)
    return np.asarray(top + np.log(np.sum(np.exp(terms - top[:, None]), axis=1)))


def _log_tilted_moment(n: int, a: Array) -> Array:
    """Return ln of exp(-a^2/2) * E[exp(a S)], S ~ chi_n, for a >= 0; any shape.

    With j_k = integral of s^k exp(-(s-a)^2/2) over s > 0 the moment is j_{n-1} / C_n,
    C_n = 2^(n/2-1) Gamma(n/2). Integration by parts gives j_k = a j_{k-1} + (k-1) j_{k-2};
    r_k = j_k / C_{k+1} obeys r_k = a C_k/C_{k+1} r_{k-1} + r_{k-2}, all terms positive.
    """
    r0 = 1.0 + _erf(a * math.sqrt(0.5))
    if n == 1:
        return np.asarray(np.log(r0))
    product = np.exp(-0.5 * a * a) + math.sqrt(math.pi / 2.0) * a * r0
    ratio = product / r0
    total = np.zeros_like(a)
    for k in range(2, n):
        step = math.sqrt(0.5) * math.exp(math.lgamma(k / 2.0) - math.lgamma((k + 1) / 2.0))
        ratio = step * a + 1.0 / ratio
        product *= ratio
        # A ratio is below 2e4, so 32 of them cannot overflow.
        if k % 32 == 0:
            total += np.log(product)
            product.fill(1.0)
    return np.asarray(total + np.log(product))


def _log_e_away(n: int, u: Array) -> Array:
    """Return ln E for u < 0, shape (rows,): quadrature over s and v = delta sqrt(n).

    For these u the recurrence would suffer cancellation, but the integrand has no peak:
    exp(-v^2/2 - |u| s v) falls in v, and s stays within the bulk of chi_n.
    """
    y, y_weight = _rule(math.log(MIN_EFFECT), math.log(9.0 / math.sqrt(n)), 4)
    v = math.sqrt(n) * np.exp(y)
    v_weight = y_weight * _density(y) * np.exp(-0.5 * v * v)
    s, s_weight = _rule(max(0.0, math.sqrt(n) - 8.0), math.sqrt(n) + 8.0, 3)
    log_norm = (n / 2.0 - 1.0) * math.log(2.0) + math.lgamma(n / 2.0)
    s_weight = s_weight * np.exp((n - 1) * np.log(s) - 0.5 * s * s - log_norm)
    by_s = np.exp(u[:, None, None] * (s[:, None] * v)) @ v_weight
    return np.asarray(np.log(by_s @ s_weight))


@lru_cache(maxsize=512)
def _effects(n: int) -> tuple[Array, Array]:
    """Return nodes delta and ln(weight * density) of the mixture, shape (nodes,).

    The integrand peaks where delta fits the data, with a width of about 1/sqrt(n) in
    delta, so the panels shrink with sqrt(n).
    """
    root = math.sqrt(n)
    near, near_weight = _rule(math.log(MIN_EFFECT), 0.0, 2 + math.ceil(root / 4.0))
    far, far_weight = _rule(0.0, math.log(MAX_EFFECT), 3 + math.ceil(1.25 * root))
    y = np.concatenate([near, far])
    weight = np.concatenate([near_weight, far_weight])
    return np.exp(y), np.log(weight * _density(y))


def _density(y: Array) -> Array:
    """Return the mixture's density over y = ln delta: Student's t, 3 degrees of freedom."""
    z = (y - MIXTURE_CENTRE) / MIXTURE_SCALE
    peak = 2.0 / (math.sqrt(3.0) * math.pi * MIXTURE_SCALE)
    return np.asarray(peak / (1.0 + z * z / 3.0) ** 2)


def _rule(low: float, high: float, panels: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes and weights on equal panels of [low, high], both 1-D."""
    points, weights = _legendre()
    edges = np.linspace(low, high, panels + 1)
    half = (high - low) / panels / 2.0
    nodes = (edges[:-1] + half)[:, None] + half * points
    return nodes.ravel(), np.tile(half * weights, panels)


@lru_cache(maxsize=1)
def _legendre() -> tuple[Array, Array]:
    points, weights = np.polynomial.legendre.leggauss(_RULE_POINTS)
    return points, weights


def _erf(x: Array) -> Array:
    """Return the error function for x >= 0, which numpy lacks."""
    result = np.ones_like(x)
    # Above 6 it is 1 to the last digit.
    small = x < 6.0
    result[small] = [math.erf(value) for value in x[small].tolist()]
    return result
