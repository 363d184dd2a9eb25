"""Intervals of a proportion, and evidence from counts such as numbers of stalls.

Based on the incomplete beta function, in logarithms and without scipy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def binomial_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a probability after ``k`` successes in ``n`` trials.

    Source: Clopper and Pearson (1934). (0, 1) without trials.

    Raises:
        ValueError: ``k`` is not in 0 ... ``n``.
    """
    _check(k, n)
    log_tail = math.log((1.0 - level) / 2.0)
    low, high = 0.0, 1.0
    if k > 0:
        # P(X >= k | p) = I_p(k, n-k+1), rising in p.
        low = _first_share(lambda p: log_beta_cdf(p, k, n - k + 1) >= log_tail, 0.0, k / n)
    if k < n:
        # P(X <= k | p) = I_{1-p}(n-k, k+1), falling in p.
        high = _first_share(lambda p: log_beta_cdf(1.0 - p, n - k, k + 1) <= log_tail, k / n, 1.0)
    return low, high


def binomial_tail(k: int, n: int, share: float) -> float:
    """Return the probability of at least ``k`` successes in ``n`` independent trials.

    Args:
        k: number of successes, 0 to n.
        n: number of trials.
        share: probability of success in each trial; between 0 and 1, both excluded.
    """
    _check(k, n)
    return math.exp(log_beta_cdf(share, k, n - k + 1)) if k else 1.0


def log_e_sign(wins: int, losses: int) -> float:
    """Return ln of the evidence that discordant pairs are "wins" more than half the time.

    The evidence is the likelihood ratio of theta to 1/2, mixed uniformly over theta in (1/2, 1):
    2^(n+1) B(w+1, l+1) P(Beta(w+1, l+1) > 1/2). It is a test martingale at theta = 1/2 and a
    supermartingale below, so it may be evaluated after every pair. Pairs that agree are no
    evidence and do not count. Sources: Ville (1939); Robbins (1970); for discordant pairs
    McNemar (1947).

    Raises:
        ValueError: a count is negative.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"counts cannot be negative, got {wins} and {losses}")
    above_half = log_beta_cdf(0.5, losses + 1, wins + 1)
    return (wins + losses + 1) * math.log(2.0) + _log_beta(wins + 1, losses + 1) + above_half


def log_e_share(k: int, n: int, share: float) -> float:
    """Return ln of the evidence that a share is above ``share`` after ``k`` of ``n``.

    The evidence is the Beta(1, 1) mixture over the likelihood at ``share`` if k / n is above it;
    otherwise 0.0 (none). It may be evaluated after every trial. Source: Robbins (1970).

    Raises:
        ValueError: ``k`` is not in 0 ... ``n``.
    """
    _check(k, n)
    if n == 0 or k <= share * n:
        return 0.0
    if share <= 0.0:
        return math.inf
    log_likelihood = k * math.log(share) + ((n - k) * math.log1p(-share) if k < n else 0.0)
    return _log_beta(k + 1, n - k + 1) - log_likelihood


def share_upper(k: int, n: int, level: float = 0.95) -> float:
    """Return an anytime-valid upper bound of a share after ``k`` of ``n``; 1.0 without trials.

    It is the largest p that the Beta(1, 1) mixture B(k+1, n-k+1) / (p^k (1-p)^(n-k)) has not
    refuted at 1/(1-level). It holds at all n simultaneously. Source: Robbins (1970).

    Raises:
        ValueError: ``k`` is not in 0 ... ``n``.
    """
    _check(k, n)
    if k == n:
        return 1.0
    mixture = _log_beta(k + 1, n - k + 1)
    log_threshold = -math.log(1.0 - level)

    def refuted(p: float) -> bool:
        if p >= 1.0:
            return True
        log_likelihood = (k * math.log(p) if k else 0.0) + (n - k) * math.log1p(-p)
        return mixture - log_likelihood >= log_threshold

    return _first_share(refuted, k / n, 1.0)


def effective_size(rows: Sequence[Sequence[bool]]) -> float:
    """Return the effective number of independent trials in ``rows`` (processes, iterations).

    That is N / deff with Kish's design effect: the variance of the share between processes
    over that of N independent trials, at least 1. A single process shows no spread between
    processes and counts once; outcomes that never differ show no clustering and count in full.
    At least 1, or 0.0 without iterations. Source: Kish (1965), Survey Sampling, 5.4 and 8.2.
    """
    kept = [row for row in rows if row]
    total = sum(len(row) for row in kept)
    if total == 0:
        return 0.0
    count = len(kept)
    if count == 1:
        return 1.0
    share = sum(sum(row) for row in kept) / total
    if share in (0.0, 1.0):
        return float(total)
    between = sum((sum(row) - share * len(row)) ** 2 for row in kept) * count / (count - 1)
    # Var(share) = between / total^2 against share (1 - share) / total.
    design_effect = between / total / (share * (1.0 - share))
    return max(total / max(design_effect, 1.0), 1.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_beta_cdf(x: float, a: float, b: float) -> float:
    """Return ln I_x(a, b): the log probability that a Beta(a, b) variable is at most ``x``.

    Accurate in the far tails, where the probability itself would round to 0. Source: DLMF
    8.17.22, its continued fraction by Lentz's method. It converges fast for x below
    (a+1)/(a+b+2); above, I_x(a, b) = 1 - I_{1-x}(b, a).

    Raises:
        ValueError: ``a`` or ``b`` is not positive.
    """
    if not (a > 0.0 and b > 0.0):
        raise ValueError(f"a beta distribution needs positive parameters, got {a} and {b}")
    if x <= 0.0:
        return -math.inf
    if x > (a + 1.0) / (a + b + 2.0):
        return math.log1p(-min(math.exp(log_beta_cdf(1.0 - x, b, a)), 1.0 - 1e-16))
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a) - _log_beta(a, b)
    return min(log_front - math.log(_fraction(x, a, b)), 0.0)


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction 1 + d_1/(1 + d_2/(1 + ...)) of DLMF 8.17.22."""
    # Lentz: c and 1/d are ratios of successive numerators and denominators.
    value, c, d = 1.0, 1.0, 0.0
    for term in range(1, 100_000):
        m = term // 2
        if term % 2:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / (1.0 + part * d)
        c = 1.0 + part / c
        value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _check(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is not a share")


def _first_share(reached: Callable[[float], bool], low: float, high: float) -> float:
    """Find by bisection where ``reached`` becomes True between ``low`` and ``high``."""
    for _ in range(60):
        middle = (low + high) / 2.0
        if reached(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2.0
