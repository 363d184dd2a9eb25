"""The screening strategy: this session against stored ones, with the spread between them.

A stored baseline only screens: a check that it can't pass is suspect, and needs
interleaved sides to decide. Without them a check is called only if it is slower
by more than sessions differ among themselves.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import compare, is_comparable
from pytest_llmperf.gate.protocol import verdict_of
from pytest_llmperf.gate.rules import CREEP_SHARE, LOG_PASS, log_alarm, slowdown
from pytest_llmperf.gate.sequential import zone_of
from pytest_llmperf.gate.stored import (
    StoredComparison,
    has_anchor,
    more_sessions,
    screen,
    sensitivity,
)
from pytest_llmperf.gate.verdict import Proof, Verdict, VerdictKind
from pytest_llmperf.gate.words import (
    at_most,
    chance_words,
    count,
    effect_words,
    percent,
    sample_facts_words,
    sensitivity_words,
)

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence

_NO_RECORD = "no session recorded on this machine contains this test"
_OTHER_WORK = "the test makes different requests than its baseline did"


class ScreeningStrategy:
    """Judges this session's level by the difference expected between sessions."""

    name = "baseline"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Return ``pass``, ``improved``, ``regressed``, or ``inconclusive``: suspect.

        ``no baseline`` and ``workload changed`` follow the baseline's status. Return None if
        two sides are compared with each other instead, for shares (stored sessions say too
        little about them) and for metrics that are never compared.
        """
        if evidence.pairs is not None or not evidence.check.metric.compared:
            return None
        view = evidence.baseline
        numbers = compare(evidence)
        if view is not None and view.status == "workload changed":
            text = view.detail or _OTHER_WORK
            return verdict_of(self.name, VerdictKind.WORKLOAD_CHANGED, evidence, numbers, text)
        if evidence.check.metric.kind == "share":
            return None
        if view is None or not is_comparable(view):
            text = (view.detail if view is not None else "") or _NO_RECORD
            return verdict_of(self.name, VerdictKind.NO_BASELINE, evidence, numbers, text)
        comparison = screen(evidence)
        if comparison is None:
            text = "nothing was measured to compare with the baseline"
            return verdict_of(self.name, VerdictKind.INCONCLUSIVE, evidence, numbers, text)
        share = evidence.comparison_alpha * (CREEP_SHARE if has_anchor(evidence) else 1.0)
        kind = weakened_if_unchanged(_kind(comparison, evidence.check.tolerance, share), evidence)
        proof = _proof(comparison, kind, evidence, share)
        return verdict_of(
            self.name,
            kind,
            evidence,
            numbers,
            _claim(comparison, kind, proof, evidence),
            facts=(f"tolerance {percent(evidence.check.tolerance)}",),
            sample_facts=(
                _sensitivity_words(comparison, proof, evidence),
                *sample_facts_words(evidence),
            ),
            proof=proof,
        )


def _kind(comparison: StoredComparison, tolerance: float, share: float) -> VerdictKind:
    zone = zone_of(tolerance)
    if comparison.p_worse <= share and comparison.effect >= zone.min_called:
        return VerdictKind.REGRESSED
    if comparison.bound >= zone.tolerance:
        return VerdictKind.INCONCLUSIVE
    better = comparison.effect <= -zone.tolerance and comparison.bound < -zone.negligible
    return VerdictKind.IMPROVED if better else VerdictKind.PASS


def weakened_if_unchanged(kind: VerdictKind, evidence: Evidence) -> VerdictKind:
    """Weaken a verdict if only the machine can have changed since the stored session."""
    regressed = kind is VerdictKind.REGRESSED
    return VerdictKind.INCONCLUSIVE if regressed and evidence.same_as else kind


def unchanged_words(evidence: Evidence) -> str:
    """Explain that only the machine can have caused a difference."""
    return f"the difference is the machine's: nothing else changed since {evidence.same_as}"


def proof_of(comparison: StoredComparison, kind: VerdictKind, share: float) -> Proof:
    """Build the proof of a comparison with stored sessions."""
    alarmed = kind is VerdictKind.REGRESSED
    return Proof(
        effect=slowdown(comparison.effect),
        low=slowdown(comparison.low),
        high=slowdown(comparison.high),
        bound=slowdown(comparison.bound),
        # A p-value is not evidence as odds; its logarithm is shown beside its own threshold.
        log_evidence=-math.log(max(comparison.p_worse, 1e-300)) if alarmed else None,
        log_threshold=log_alarm(share) if alarmed else LOG_PASS,
        samples=comparison.sessions,
    )


def _proof(
    comparison: StoredComparison, kind: VerdictKind, evidence: Evidence, share: float
) -> Proof:
    limits = sensitivity(evidence, share)
    more = None
    if kind is VerdictKind.INCONCLUSIVE and evidence.ended:
        more = more_sessions(evidence, share)
    return replace(
        proof_of(comparison, kind, share),
        passes_up_to=limits.passes_up_to,
        calls_from=limits.calls_from,
        more=more,
    )


def _claim(
    comparison: StoredComparison, kind: VerdictKind, proof: Proof, evidence: Evidence
) -> str:
    metric = evidence.check.metric
    effect = effect_words(
        metric, slowdown(comparison.effect), slowdown(comparison.low), slowdown(comparison.high)
    )
    if kind is VerdictKind.INCONCLUSIVE and evidence.same_as:
        return f"{effect}, and {unchanged_words(evidence)}"
    if kind is VerdictKind.INCONCLUSIVE:
        negligible = zone_of(evidence.check.tolerance).negligible
        if comparison.low > negligible:
            return f"{effect}, suspect: not every {evidence.unit} is that slow"
        if comparison.effect <= negligible:
            stored = count(comparison.sessions, "stored session")
            return f"{effect}, but {stored} can't prove a pass"
        return f"{effect}, suspect: within the spread between sessions"
    if kind is VerdictKind.REGRESSED:
        assert proof.log_evidence is not None
        assert proof.log_threshold is not None
        chance = chance_words(proof.log_evidence, proof.log_threshold)
        return f"{effect}, more than sessions differ ({chance})"
    claim = f"{effect}, {at_most(slowdown(comparison.bound), metric)}"
    return f"{claim}: the baseline is stale" if kind is VerdictKind.IMPROVED else claim


def _sensitivity_words(comparison: StoredComparison, proof: Proof, evidence: Evidence) -> str:
    """Describe the sensitivity of this number of stored sessions."""
    assert proof.passes_up_to is not None
    assert proof.calls_from is not None
    words = sensitivity_words(evidence.check.metric, proof.passes_up_to, proof.calls_from)
    return f"{count(comparison.sessions, 'stored session')} can decide: {words}"
