"""The creeping strategy: steps that stay within the tolerance one by one, but add up to more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import compare
from pytest_llmperf.gate.protocol import verdict_of
from pytest_llmperf.gate.rules import CREEP_SHARE, slowdown
from pytest_llmperf.gate.screening import proof_of, unchanged_words, weakened_if_unchanged
from pytest_llmperf.gate.sequential import zone_of
from pytest_llmperf.gate.stored import creep
from pytest_llmperf.gate.verdict import Verdict, VerdictKind
from pytest_llmperf.gate.words import (
    chance_words,
    effect_words,
    listed,
    percent,
    sample_facts_words,
)

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence


class CreepingStrategy:
    """Judges the present level by the fixed anchor, which does not move with the window."""

    name = "anchor"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Return ``regressed`` if the level has crept away from the anchor, else None."""
        if evidence.check.metric.kind == "share":
            return None
        crept = creep(evidence)
        if crept is None:
            return None
        tolerance = evidence.check.tolerance
        share = evidence.comparison_alpha * (1.0 - CREEP_SHARE)
        # Only from about the whole tolerance on: smaller changes are accepted.
        if not (crept.p_worse <= share and crept.effect >= zone_of(tolerance).min_called):
            return None
        view = evidence.baseline
        assert view is not None
        kind = weakened_if_unchanged(VerdictKind.REGRESSED, evidence)
        metric, steps = evidence.check.metric, (crept.effect, crept.low, crept.high)
        proof = proof_of(crept, VerdictKind.REGRESSED, share)
        assert proof.log_evidence is not None
        assert proof.log_threshold is not None
        claim = (
            f"creeping, step by step, away from the anchor: "
            f"{effect_words(metric, *map(slowdown, steps))} "
            f"({chance_words(proof.log_evidence, proof.log_threshold)})"
        )
        if evidence.same_as:
            claim += f", and {unchanged_words(evidence)}"
        facts = (f"anchor {listed(view.anchor_sources)}", f"tolerance {percent(tolerance)}")
        return verdict_of(
            self.name,
            kind,
            evidence,
            compare(evidence),
            claim,
            facts=facts,
            sample_facts=sample_facts_words(evidence),
            proof=proof,
        )
