"""Figures of quality, computed from the scores of a candidate and a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_llmperf.stats.blocks import block_mean, cut_into_blocks
from pytest_llmperf.stats.proportions import binomial_interval, effective_size
from pytest_llmperf.stored_json import NOT_STORED, Number, Stored, Whole

if TYPE_CHECKING:
    from pytest_llmperf.engine.token_scores import Floats, TokenScores
    from pytest_llmperf.quality.passages import Answer

#: Number of neighbouring positions that form one block, as neighbours resemble each other.
BLOCK = 32

#: Both ends of an interval at 95%, or None where there are too few blocks.
Interval = tuple[Number, Number] | None


@dataclass(frozen=True)
class QualityResult(Stored):
    """Quality of a candidate's answers, compared with a reference's.

    Attributes:
        tokens: number of scored positions.
        blocks: number of blocks of positions, which are taken as independent.
        perplexity: exponential of the candidate's mean negative log-likelihood.
        reference_perplexity: the same of the reference.
        perplexity_increase: ``perplexity / reference_perplexity - 1``.
        perplexity_interval: interval of the increase.
        kl: mean Kullback-Leibler divergence of the candidate from the reference, nats.
        kl_interval: its interval.
        kl_bound: lower bound of ``kl``, without the part that is estimated from a sample.
        kl_error: standard error of ``kl`` if positions were independent, for comparison with
            tools that assume this.
        top1: share of positions at which both find the same token most likely.
        top1_interval: its interval.
        greedy_agreement: mean number of tokens up to the first difference of greedy answers.
        greedy_tokens: mean length of the reference's answers.
        reference: name of the reference.
        candidate: name of the candidate.
        notes: remarks about stored results, one line each.
        from_cache: nothing was measured: the same comparison was made before.
    """

    tokens: Whole
    blocks: Whole
    perplexity: Number
    reference_perplexity: Number
    perplexity_increase: Number
    perplexity_interval: Interval
    kl: Number
    kl_interval: Interval
    kl_bound: Number
    kl_error: Number
    top1: Number
    top1_interval: Interval
    greedy_agreement: Number
    greedy_tokens: Number
    reference: str = field(default="", metadata=NOT_STORED)
    candidate: str = field(default="", metadata=NOT_STORED)
    notes: tuple[str, ...] = field(default=(), metadata=NOT_STORED)
    from_cache: bool = field(default=False, metadata=NOT_STORED)


def kl_lower_bounds(reference: TokenScores, candidate: TokenScores) -> Floats:
    """Return a lower bound of each position's divergence, nats, shape (positions,).

    Sums ``p ln(p / q)`` over the tokens that the reference kept, and over all others as if they
    were one. Merging outcomes never increases a divergence (data processing inequality); nothing
    is lost if every token was kept.
    Source: Cover and Thomas (2006), Elements of Information Theory, 2.7 and 2.8.
    """
    import numpy as np

    p, q = (side.logs.astype(np.float64) for side in (reference, candidate))
    bounds: Floats = (np.exp(p) * (p - q)).sum(axis=1)
    some = np.isfinite(reference.rest)
    rest = reference.rest[some]
    bounds[some] += np.exp(rest) * (rest - candidate.rest[some])
    return bounds


def kl_divergences(reference: TokenScores, candidate: TokenScores) -> Floats:
    """Return an estimate of each position's divergence, nats, shape (positions,).

    It is the lower bound plus its loss: the divergence among the merged tokens, times their
    probability. That is the mean of ``r - 1 - ln r`` over tokens drawn by the reference's
    probabilities, ``r = q / p`` relative to both sides' mass of merged tokens. It is never
    negative, and has the right expectation, as the mean of ``r`` is 1.
    """
    import numpy as np

    divergences = kl_lower_bounds(reference, candidate)
    if not reference.sampled.shape[1]:
        return divergences
    some = np.isfinite(reference.rest)
    p, q = (
        side.sampled_logs[some].astype(np.float64) - side.rest[some, None]
        for side in (reference, candidate)
    )
    lost = (np.expm1(q - p) - (q - p)).mean(axis=1)
    divergences[some] += np.exp(reference.rest[some]) * lost
    return divergences


def figures_of(
    pairs: Sequence[tuple[TokenScores, TokenScores]],
    answers: Sequence[tuple[Answer, Sequence[int]]],
) -> QualityResult:
    """Compute all figures.

    Args:
        pairs: reference and candidate of every passage.
        answers: the reference's greedy continuations, each with the candidate's.
    """
    kl, increase, same = [], [], []
    nll, bound = [0.0, 0.0], 0.0
    for reference, candidate in pairs:
        kl += cut_into_blocks(kl_divergences(reference, candidate).tolist(), BLOCK)
        bound += float(kl_lower_bounds(reference, candidate).sum())
        increase += cut_into_blocks((candidate.nll - reference.nll).tolist(), BLOCK)
        equal = (candidate.best == reference.best).astype(float)
        same += cut_into_blocks(equal.tolist(), BLOCK)
        nll[0] += float(candidate.nll.sum())
        nll[1] += float(reference.nll.sum())
    tokens = sum(map(len, kl))
    divergence, change = block_mean(kl), block_mean(increase)
    top1 = sum(map(math.fsum, same)) / tokens
    values = [value for block in kl for value in block]
    agreed = [answer.agreement(other) for answer, other in answers]
    lengths = [len(answer.tokens) for answer, _ in answers]
    return QualityResult(
        tokens=tokens,
        blocks=len(kl),
        perplexity=math.exp(nll[0] / tokens),
        reference_perplexity=math.exp(nll[1] / tokens),
        perplexity_increase=math.expm1(change.value),
        perplexity_interval=None
        if change.low is None or change.high is None
        else (math.expm1(change.low), math.expm1(change.high)),
        # Rounding may put a divergence of zero just below zero.
        kl=max(divergence.value, 0.0),
        kl_interval=None
        if divergence.low is None or divergence.high is None
        else (max(divergence.low, 0.0), max(divergence.high, 0.0)),
        kl_bound=max(bound / tokens, 0.0),
        kl_error=_independent_error(values),
        top1=top1,
        top1_interval=_share_interval(same, top1),
        greedy_agreement=sum(agreed) / len(agreed) if agreed else 0.0,
        greedy_tokens=sum(lengths) / len(lengths) if lengths else 0.0,
    )


def _share_interval(blocks: Sequence[Sequence[float]], share: float) -> Interval:
    """Return the exact interval for the number of independent positions the blocks are worth."""
    if len(blocks) < 2:
        return None
    size = round(effective_size([[value > 0 for value in block] for block in blocks]))
    return binomial_interval(round(share * size), size)


def _independent_error(values: Sequence[float]) -> float:
    count = len(values)
    if count < 2:
        return 0.0
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (count - 1) / count)
