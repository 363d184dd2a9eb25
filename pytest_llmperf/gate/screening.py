"""The screening strategy: this session against stored ones, whose own spread is part of the noise.

A stored baseline screens: it may say ``pass``. What it can't pass is suspect, and
two interleaved sides would decide it. Where there are none it is called only when
it is slower by more than sessions differ among themselves.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import compare, is_comparable
from pytest_llmperf.gate.protocol import verdict_of
from pytest_llmperf.gate.rules import CREEP_SHARE, LOG_PASS, log_alarm, slowdown
from pytest_llmperf.gate.running import zone_of
from pytest_llmperf.gate.stored import Screened, has_anchor, more_sessions, screen, sensitivity
from pytest_llmperf.gate.verdict import Proof, Verdict, VerdictKind
from pytest_llmperf.gate.words import (
    at_most,
    chance_words,
    count,
    effect_words,
    percent,
    reach_words,
    seen_words,
)

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence

_NO_RECORD = "no earlier session on this machine holds this test"
_OTHER_WORK = "the test asks the engine for other work than its baseline did"


class ScreeningStrategy:
    """Judges this session's level by what a new session may differ from the stored ones."""

    name = "baseline"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """``pass``, ``improved``, ``regressed``, or ``inconclusive``: suspect.

        ``no baseline`` and ``workload changed`` as the baseline's status says. None
        where the sides of this session are compared with each other instead, for shares,
        which stored sessions say too little about, and for what is never compared.
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
        screened = screen(evidence)
        if screened is None:
            text = "nothing was measured to compare with the baseline"
            return verdict_of(self.name, VerdictKind.INCONCLUSIVE, evidence, numbers, text)
        share = evidence.alarm_share * (CREEP_SHARE if has_anchor(evidence) else 1.0)
        kind = unless_same(_kind(screened, evidence.check.tolerance, share), evidence)
        proof = _proof(screened, kind, evidence, share)
        return verdict_of(
            self.name,
            kind,
            evidence,
            numbers,
            _claim(screened, kind, proof, evidence),
            facts=(f"tolerance {percent(evidence.check.tolerance)}",),
            seen=(_reach(screened, proof, evidence), *seen_words(evidence)),
            proof=proof,
        )


def _kind(screened: Screened, tolerance: float, share: float) -> VerdictKind:
    zone = zone_of(tolerance)
    if screened.p_worse <= share and screened.effect >= zone.least:
        return VerdictKind.REGRESSED
    if screened.bound >= zone.tolerance:
        return VerdictKind.INCONCLUSIVE
    better = screened.effect <= -zone.tolerance and screened.bound < -zone.negligible
    return VerdictKind.IMPROVED if better else VerdictKind.PASS


def unless_same(kind: VerdictKind, evidence: Evidence) -> VerdictKind:
    """Return what is left of a verdict where nothing but the machine can have changed."""
    regressed = kind is VerdictKind.REGRESSED
    return VerdictKind.INCONCLUSIVE if regressed and evidence.same_as else kind


def same_words(evidence: Evidence) -> str:
    """Say whose doing a difference is where nothing else changed."""
    return f"the difference is the machine's: nothing else changed since {evidence.same_as}"


def proof_of(screened: Screened, kind: VerdictKind, share: float) -> Proof:
    """The numbers of a comparison with stored sessions."""
    alarmed = kind is VerdictKind.REGRESSED
    return Proof(
        effect=slowdown(screened.effect),
        low=slowdown(screened.low),
        high=slowdown(screened.high),
        bound=slowdown(screened.bound),
        # A p-value is no evidence in the sense of odds; its logarithm is shown beside its own bar.
        log_evidence=-math.log(max(screened.p_worse, 1e-300)) if alarmed else None,
        log_threshold=log_alarm(share) if alarmed else LOG_PASS,
        samples=screened.sessions,
    )


def _proof(screened: Screened, kind: VerdictKind, evidence: Evidence, share: float) -> Proof:
    told = sensitivity(evidence, share)
    more = None
    if kind is VerdictKind.INCONCLUSIVE and evidence.ended:
        more = more_sessions(evidence, share)
    return replace(
        proof_of(screened, kind, share),
        passes_up_to=told.passes_up_to,
        calls_from=told.calls_from,
        more=more,
    )


def _claim(screened: Screened, kind: VerdictKind, proof: Proof, evidence: Evidence) -> str:
    metric = evidence.check.metric
    effect = effect_words(
        metric, slowdown(screened.effect), slowdown(screened.low), slowdown(screened.high)
    )
    if kind is VerdictKind.INCONCLUSIVE and evidence.same_as:
        return f"{effect}, and {same_words(evidence)}"
    if kind is VerdictKind.INCONCLUSIVE:
        if screened.low > zone_of(evidence.check.tolerance).negligible:
            return f"{effect}, suspect: not every process is that slow"
        return f"{effect}, suspect: within what sessions may differ"
    if kind is VerdictKind.REGRESSED:
        assert proof.log_evidence is not None
        assert proof.log_threshold is not None
        chance = chance_words(proof.log_evidence, proof.log_threshold)
        return f"{effect}, more than sessions differ ({chance})"
    claim = f"{effect}, {at_most(slowdown(screened.bound), metric)}"
    return f"{claim}: the baseline is stale" if kind is VerdictKind.IMPROVED else claim


def _reach(screened: Screened, proof: Proof, evidence: Evidence) -> str:
    """What so many stored sessions can tell."""
    assert proof.passes_up_to is not None
    assert proof.calls_from is not None
    told = reach_words(evidence.check.metric, proof.passes_up_to, proof.calls_from)
    return f"{count(screened.sessions, 'stored session')} can tell: {told}"
