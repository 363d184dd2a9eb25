"""The interleaved strategy: two sides in one session, compared pair by pair until decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import Comparison, compare, paired_differences
from pytest_llmperf.gate.protocol import proof_so_far, verdict_of
from pytest_llmperf.gate.rules import LOG_PASS, log_alarm, slowdown
from pytest_llmperf.gate.sequential import (
    SequentialEvidence,
    first_look,
    is_fine,
    is_worse,
    sequential_evidence,
    zone_of,
)
from pytest_llmperf.gate.verdict import Proof, Verdict, VerdictKind
from pytest_llmperf.gate.without_turns import Contradiction, contradiction
from pytest_llmperf.gate.words import (
    at_most,
    change_words,
    count,
    effect_words,
    evidence_words,
    more_words,
    needed_words,
    percent,
    plural,
    sample_facts_words,
    sample_noun,
    too_few,
    undecided,
)

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence


#: Smallest difference between the sides' values that needs an explanation.
_SEEN = 0.005
_FINE = (VerdictKind.PASS, VerdictKind.IMPROVED)


class InterleavedStrategy:
    """Judges the paired differences of two sides by the tolerance's indifference zone."""

    name = "interleaved"

    def judge(self, evidence: Evidence) -> Verdict | None:
        """Return ``regressed``, ``pass``, ``improved``, or ``inconclusive`` with the missing pairs.

        Return None if no sides were interleaved.
        """
        pairs, check = evidence.pairs, evidence.check
        if pairs is None or check.metric.kind == "share":
            return None
        numbers = compare(evidence)
        state = sequential_evidence(paired_differences(evidence), check.tolerance, check.metric)
        kind = _kind(state, evidence)
        contradicted = contradiction(evidence)
        if contradicted and contradicted.proven and kind in _FINE:
            return verdict_of(
                self.name,
                VerdictKind.INCONCLUSIVE,
                evidence,
                numbers,
                _contradicted(contradicted, state, evidence),
                sample_facts=sample_facts_words(evidence),
            )
        proof = proof_so_far(
            state,
            evidence,
            tolerance=check.tolerance,
            share=evidence.comparison_alpha,
            worse=_nearer_alarm(state, kind, evidence),
            undecided=kind is VerdictKind.INCONCLUSIVE,
            seconds=pairs.seconds,
        )
        return verdict_of(
            self.name,
            kind,
            evidence,
            numbers,
            _claim(state, kind, proof, evidence),
            facts=[
                *_facts(state, kind, proof, evidence),
                *_other_way(numbers, proof, evidence),
                *_ran_alone(contradicted, evidence),
            ],
            sample_facts=sample_facts_words(evidence),
            proof=proof,
            more_can_decide=kind is VerdictKind.INCONCLUSIVE,
        )


def _kind(state: SequentialEvidence, evidence: Evidence) -> VerdictKind:
    tolerance = evidence.check.tolerance
    if state.look is None:
        return VerdictKind.INCONCLUSIVE
    if is_worse(state, tolerance, evidence.comparison_alpha):
        return VerdictKind.REGRESSED
    if not is_fine(state, tolerance):
        return VerdictKind.INCONCLUSIVE
    zone = zone_of(tolerance)
    better = state.effect <= -zone.tolerance and state.bound < -zone.negligible
    return VerdictKind.IMPROVED if better else VerdictKind.PASS


def _contradicted(
    contradicted: Contradiction, state: SequentialEvidence, evidence: Evidence
) -> str:
    return (
        f"{change_words(evidence.check.metric, slowdown(state.effect))} in turns, but "
        f"{_alone_words(contradicted, evidence)}: the sides affect each other (a shared cache, "
        "heat, clocks); set perf.turns: processes to compare them without turns"
    )


def _alone_words(contradicted: Contradiction, evidence: Evidence) -> str:
    return (
        f"{change_words(evidence.check.metric, contradicted.change)} in "
        f"{count(contradicted.pairs, 'pair')} whose {plural(evidence.unit)} ran one after the other"
    )


def _ran_alone(contradicted: Contradiction | None, evidence: Evidence) -> list[str]:
    """Report that pairs without turns contradict the others, or that there are none."""
    if not evidence.ended:
        return []
    if contradicted is None:
        missing = evidence.pairs is not None and evidence.pairs.without_turns == ()
        return [f"no pair of {plural(evidence.unit)} ran one after the other"] if missing else []
    weight = "" if contradicted.proven else " (this may be noise)"
    return [f"{_alone_words(contradicted, evidence)}{weight}"]


def _nearer_alarm(state: SequentialEvidence, kind: VerdictKind, evidence: Evidence) -> bool:
    """Whether to show the evidence of a slowdown; if undecided, whether it is nearer."""
    if kind is not VerdictKind.INCONCLUSIVE:
        return kind is VerdictKind.REGRESSED
    return state.log_worse / log_alarm(evidence.comparison_alpha) > state.log_fine / LOG_PASS


def _claim(state: SequentialEvidence, kind: VerdictKind, proof: Proof, evidence: Evidence) -> str:
    pairs, check = evidence.pairs, evidence.check
    assert pairs is not None
    if proof.effect is None or proof.low is None or proof.high is None or proof.bound is None:
        return too_few(evidence, state.n, first_look(check.metric), sample_noun(evidence))
    assert proof.log_evidence is not None
    effect = effect_words(check.metric, proof.effect, proof.low, proof.high)
    weight = evidence_words(proof.log_evidence)
    if kind is VerdictKind.INCONCLUSIVE:
        claim = f"{effect}, {undecided(evidence)}; {weight}"
        if not evidence.ended:
            return claim
        return f"{claim}; {more_words(proof.more, pairs.seconds, sample_noun(evidence))}"
    if kind is VerdictKind.REGRESSED:
        negligible = percent(slowdown(zone_of(check.tolerance).negligible))
        return f"{effect}, proven over the negligible {negligible}; {weight}"
    return f"{effect}, {at_most(proof.bound, check.metric)}; {weight}"


def _other_way(numbers: Comparison, proof: Proof, evidence: Evidence) -> list[str]:
    """Explain medians of the two sides that differ in the opposite direction from their pairs."""
    if numbers.current is None or numbers.baseline is None or numbers.change is None:
        return []
    if proof.low is None:
        return []
    metric, change = evidence.check.metric, numbers.change
    sides = metric.slowdown(numbers.current.value, numbers.baseline.value)
    if sides * change >= 0.0 or min(abs(sides), abs(change)) < _SEEN:
        return []
    return [
        f"{change_words(metric, change)} pair by pair, where changes of the machine cancel out; "
        f"the two sides' medians alone suggest {change_words(metric, sides)}"
    ]


def _facts(
    state: SequentialEvidence, kind: VerdictKind, proof: Proof, evidence: Evidence
) -> list[str]:
    """Return the facts behind a claim: required evidence, tolerance, outliers on only one side."""
    facts = []
    if proof.bound is not None and proof.log_threshold is not None:
        alarm = _nearer_alarm(state, kind, evidence)
        facts.append(needed_words(proof.log_threshold, "to call it slower" if alarm else "to pass"))
    facts.append(f"tolerance {percent(evidence.check.tolerance)}")
    low, high = state.clipped
    if bool(low) != bool(high):
        side = "slow" if high else "fast"
        facts.append(f"{count(low + high, f'{side} outlier')} clipped, none on the other side")
    return facts
