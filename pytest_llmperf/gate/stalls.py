"""The stalls strategy: how often iterations stall, which a median does not show.

Samples are rows of 1 (stalled) and 0 per process. Iterations of one process
stall together, so intervals are based on a smaller, effective number of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import Comparison, compare
from pytest_llmperf.gate.protocol import verdict_of
from pytest_llmperf.gate.rules import FALSE_PASSES, log_alarm
from pytest_llmperf.gate.verdict import Proof, Verdict, VerdictKind
from pytest_llmperf.gate.words import (
    count,
    evidence_words,
    limit_text,
    needed_words,
    sample_facts_words,
    undecided,
)
from pytest_llmperf.stats.proportions import effective_size, log_e_share, log_e_sign, share_upper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmperf.gate.check import Evidence, Samples


#: A stall rate is called if it rises by at least this share of its tolerance.
_MIN_SHARE = 0.8


class StallStrategy:
    """Judges the candidate's share of stalled iterations by the base side's."""

    name = "stalls"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Return ``regressed``, ``pass`` or ``inconclusive``; None for other metrics.

        Without a limit and a second side it is ``no baseline``: stored sessions are not a
        reference, because the stall rate changes from hour to hour.
        """
        pairs, check = evidence.pairs, evidence.check
        if check.metric.kind != "share":
            return None
        numbers = compare(evidence)
        if pairs is None:
            if check.limit is not None:
                return None
            text = (
                "a stall rate is compared with a limit (max=) or with a second side "
                "(--llmperf-against-config), not with stored sessions"
            )
            return verdict_of(self.name, VerdictKind.NO_BASELINE, evidence, numbers, text)
        wins, losses = discordant(pairs.candidate, pairs.base)
        evidence_now, alarm = log_more_stalls(evidence), log_alarm(evidence.comparison_alpha)
        candidate, base = rate(pairs.candidate), rate(pairs.base)
        highest = upper_share(pairs.candidate)
        if evidence_now >= alarm and is_many_more(evidence):
            kind = VerdictKind.REGRESSED
        elif highest <= lower_share(pairs.base, FALSE_PASSES) + check.tolerance:
            kind = VerdictKind.PASS
        else:
            kind = VerdictKind.INCONCLUSIVE
        claim = (
            f"{candidate:.0%} stalled, at most {highest:.0%}; base {base:.0%}, "
            f"an increase of {check.tolerance * 100:g} points is tolerated"
        )
        facts = []
        if kind is not VerdictKind.PASS:
            claim += (
                f"; more often in {count(wins, 'pair')}, less often in {losses}; "
                f"{evidence_words(evidence_now)}"
            )
            facts.append(needed_words(alarm, "to call it an increase"))
        if kind is VerdictKind.INCONCLUSIVE:
            claim = f"{undecided(evidence)}: {claim}"
        return _verdict(self.name, kind, evidence, numbers, claim, facts, (evidence_now, alarm))


class StallLimitStrategy:
    """Judges the share of stalled iterations by the limit that the test states."""

    name = "stall limit"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Return ``missed``, ``pass`` or ``inconclusive``; None without a limit on stalls."""
        check, rows = evidence.check, evidence.samples
        if check.metric.kind != "share" or check.limit is None or not rows:
            return None
        numbers = compare(evidence)
        beyond, highest = log_beyond_limit(evidence), upper_share(rows)
        stalled, bound = round(sum(map(sum, rows))), f"at most {highest:.0%}"
        claim = f"{stalled} of {count(sum(map(len, rows)), 'iteration')} stalled"
        wanted = limit_text(check.limit, check.metric)
        if beyond >= log_alarm(evidence.target_alpha):
            kind, claim = VerdictKind.MISSED, f"target missed: {claim}, must be at most {wanted}"
        elif highest <= check.limit:
            kind, claim = VerdictKind.PASS, f"target met: {claim}, {bound} of all"
        else:
            kind = VerdictKind.INCONCLUSIVE
            claim = f"{undecided(evidence)}: {claim}, {bound} of all, must be at most {wanted}"
        return _verdict(self.name, kind, evidence, numbers, claim)


def _verdict(
    strategy: str,
    kind: VerdictKind,
    evidence: Evidence,
    numbers: Comparison,
    claim: str,
    facts: Sequence[str] = (),
    odds: tuple[float, float] | None = None,
) -> Verdict:
    proof = Proof(
        log_evidence=odds[0] if odds else None,
        log_threshold=odds[1] if odds else None,
        samples=len(evidence.samples if evidence.pairs is None else evidence.pairs.candidate),
    )
    return verdict_of(
        strategy,
        kind,
        evidence,
        numbers,
        claim,
        facts=facts,
        sample_facts=sample_facts_words(evidence),
        proof=proof,
        more_can_decide=kind is VerdictKind.INCONCLUSIVE,
    )


def log_more_stalls(evidence: Evidence) -> float:
    """Return the largest evidence so far that the candidate stalls more often.

    This is an anytime-valid sign test: without a true difference, either side of a pair stalls
    more often with equal chance, whatever disturbs both sides.
    """
    pairs = evidence.pairs
    if pairs is None:
        return 0.0
    largest, wins, losses = 0.0, 0, 0
    for candidate, base in zip(pairs.candidate, pairs.base, strict=True):
        wins += sum(candidate) > sum(base)
        losses += sum(candidate) < sum(base)
        largest = max(largest, log_e_sign(wins, losses))
    return largest


def is_many_more(evidence: Evidence) -> bool:
    """Whether the candidate's stall rate is higher by about its tolerance, in percentage points."""
    pairs = evidence.pairs
    if pairs is None:
        return False
    return rate(pairs.candidate) - rate(pairs.base) >= _MIN_SHARE * evidence.check.tolerance


def log_beyond_limit(evidence: Evidence) -> float:
    """Return the anytime-valid evidence that the share is above its limit."""
    rows, limit = evidence.samples, evidence.check.limit
    if limit is None or not rows:
        return 0.0
    size = _effective(rows)
    return log_e_share(round(rate(rows) * size), size, limit)


def discordant(candidate: Samples, base: Samples) -> tuple[int, int]:
    """Count the pairs in which the candidate stalled more often, and less often."""
    both = list(zip(candidate, base, strict=True))
    return sum(sum(c) > sum(b) for c, b in both), sum(sum(c) < sum(b) for c, b in both)


def rate(rows: Samples) -> float:
    """Return the share of iterations that stalled."""
    return sum(map(sum, rows)) / max(sum(map(len, rows)), 1)


def upper_share(rows: Samples) -> float:
    """Return the anytime-valid upper bound of the share (95%)."""
    size = _effective(rows)
    return share_upper(round(rate(rows) * size), size, 1.0 - FALSE_PASSES)


def lower_share(rows: Samples, alpha: float) -> float:
    """Return a lower bound of the share, wrong with a chance of ``alpha``."""
    size = _effective(rows)
    return 1.0 - share_upper(size - round(rate(rows) * size), size, 1.0 - alpha)


def _effective(rows: Samples) -> int:
    return math.floor(effective_size([[value > 0 for value in row] for row in rows]))
