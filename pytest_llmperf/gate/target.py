"""The target strategy: an absolute limit, met or missed beyond the noise between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import compare, target_differences
from pytest_llmperf.gate.protocol import proof_so_far, verdict_of
from pytest_llmperf.gate.sequential import (
    SequentialEvidence,
    first_look,
    is_fine,
    is_worse,
    sequential_evidence,
)
from pytest_llmperf.gate.verdict import Proof, Verdict, VerdictKind
from pytest_llmperf.gate.words import (
    evidence_words,
    more_words,
    needed_words,
    percent,
    plural,
    sample_facts_words,
    target_words,
    too_few,
    undecided,
)
from pytest_llmperf.units import format_quantity

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence
    from pytest_llmperf.metrics import Unit

#: A limit has no grey zone, so its tolerance is zero.
_NO_ZONE = 0.0
#: Largest distance from a limit, as a fraction, that is reported as at its edge.
_EDGE = 0.05


class TargetStrategy:
    """Judges the processes' medians by the limit that the test states."""

    name = "target"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Return ``pass``, ``missed``, or ``inconclusive`` if the limit lies within the noise.

        Return None without a target or samples.
        """
        check = evidence.check
        if check.limit is None or check.metric.kind == "share":
            return None
        numbers = compare(evidence)
        if numbers.current is None:
            return None
        if evidence.disturbed:
            return verdict_of(
                self.name,
                VerdictKind.INCONCLUSIVE,
                evidence,
                numbers,
                f"the target was not judged: {evidence.disturbed}; both sides took turns within "
                "it, so only their difference counts",
            )
        state = sequential_evidence(target_differences(evidence), _NO_ZONE, check.metric)
        kind = _kind(state, evidence)
        proof = proof_so_far(
            state,
            evidence,
            tolerance=_NO_ZONE,
            share=evidence.target_alpha,
            worse=_is_missing(state, kind),
            undecided=kind is VerdictKind.INCONCLUSIVE,
            seconds=evidence.seconds,
        )
        return verdict_of(
            self.name,
            kind,
            evidence,
            numbers,
            _claim(kind, proof, evidence, numbers.current.value, check.limit),
            facts=_facts(state, kind, proof),
            sample_facts=sample_facts_words(evidence),
            proof=proof,
            more_can_decide=kind is VerdictKind.INCONCLUSIVE,
        )


def _kind(state: SequentialEvidence, evidence: Evidence) -> VerdictKind:
    if state.look is not None and is_worse(state, _NO_ZONE, evidence.target_alpha):
        return VerdictKind.MISSED
    return VerdictKind.PASS if is_fine(state, _NO_ZONE) else VerdictKind.INCONCLUSIVE


def _is_missing(state: SequentialEvidence, kind: VerdictKind) -> bool:
    """Whether to show the evidence of a miss; if undecided, whether the limit is exceeded."""
    return kind is VerdictKind.MISSED or (kind is VerdictKind.INCONCLUSIVE and state.effect > 0)


def _claim(kind: VerdictKind, proof: Proof, evidence: Evidence, value: float, limit: float) -> str:
    check = evidence.check
    assert proof.log_evidence is not None
    weight = evidence_words(proof.log_evidence)
    text = f"{_distinct(value, limit, check.metric.unit)}, must be {target_words(check)}"
    if kind is VerdictKind.PASS:
        return f"target met: {text}; {weight}"
    if kind is VerdictKind.MISSED:
        return f"target missed by {_miss(check.metric.slowdown(value, limit))}: {text}; {weight}"
    grouped = check.metric.kind == "percentile"
    noun = f"group of {plural(evidence.unit)}" if grouped else evidence.unit
    if proof.low is None:
        missing = too_few(evidence, proof.samples, first_look(check.metric), noun)
        return f"{text}; {missing}"
    near = proof.effect is not None and abs(proof.effect) <= _EDGE
    lead = "at the edge of its target: " if near else ""
    text = f"{lead}{text}, {undecided(evidence)}; {weight}"
    if not evidence.ended:
        return text
    return f"{text}; {more_words(proof.more, evidence.seconds, noun)}"


def _facts(state: SequentialEvidence, kind: VerdictKind, proof: Proof) -> list[str]:
    assert proof.log_threshold is not None
    purpose = "to call it missed" if _is_missing(state, kind) else "to meet it"
    return [needed_words(proof.log_threshold, purpose)]


def _miss(slowdown_: float) -> str:
    """Return the distance from the limit: ``20%``, or, if large, ``a factor of 9.15``."""
    if slowdown_ < 1:
        return percent(slowdown_)
    factor = 1 + slowdown_
    return f"a factor of {factor:.3g}" if factor < 1000 else f"a factor of {factor:,.0f}"


def _distinct(value: float, limit: float, unit: Unit) -> str:
    """Format ``value`` with enough digits to differ from the formatted limit."""
    for precision in range(3, 8):
        text = format_quantity(value, unit, precision)
        if text != format_quantity(limit, unit, precision):
            break
    return text
