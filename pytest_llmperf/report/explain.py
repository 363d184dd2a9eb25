"""Explains each verdict of a test: a line per metric, and the facts that they share once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.gate.rules import LOG_PASS
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import (
    count,
    listed,
    needed_words,
    odds,
    sensitivity_words,
    signed,
)
from pytest_llmperf.text import wrap_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.session.result import CheckResult, TestResult

_INDENT = "    "
#: Kinds whose explanation is about the whole test rather than one metric's numbers.
_WHOLE_TEST = frozenset({VerdictKind.INVALID, VerdictKind.WORKLOAD_CHANGED})
_MET = frozenset({VerdictKind.PASS, VerdictKind.IMPROVED, VerdictKind.NO_BASELINE})


@dataclass(frozen=True)
class _Explained:
    """One metric's verdict; every verdict that is explained has one."""

    label: str
    verdict: Verdict


def common_facts(tests: Sequence[TestResult]) -> list[str]:
    """Facts that a session need say only once: what a pass asks for, the one tolerance."""
    facts = [fact for test in tests for verdict in test.verdicts for fact in verdict.facts]
    common = [fact for fact in dict.fromkeys(facts) if fact == needed_words(LOG_PASS, "to pass")]
    tolerances = {fact for fact in facts if fact.startswith("tolerance ")}
    return common + (list(tolerances) if len(tolerances) == 1 else [])


def explanations(
    test: TestResult, width: int, brief: bool = False, known: Collection[str] = ()
) -> list[str]:
    """Explain a test's verdicts, one line per metric and per thing that they share.

    ``brief`` leaves out what only says why a pass is one; ``known`` facts are said elsewhere.
    """
    explained = [
        _Explained(row.label, row.verdict)
        for row in test.rows
        if row.verdict is not None and _is_explained(row.verdict, brief)
    ]
    shared = _shared_facts(explained, known)
    said = {*known, *(fact for facts in shared.values() for fact in facts)}
    lines = _claims(explained, said, width)
    if not brief:
        for text in (*_targets_met(test.rows), *_reach(explained)):
            lines += wrap_words(text, width, first="  ", indent=_INDENT)
    for labels, facts in shared.items():
        whose = "" if len(labels) == len(explained) else f" ({listed(labels)})"
        lines += wrap_words(f"{', '.join(facts)}{whose}", width, first="  ", indent=_INDENT)
    for cause in test.causes:
        lines += wrap_words(f"likely cause: {cause}", width, first="  - ", indent=_INDENT)
    for finding in test.findings:
        lines += wrap_words(finding, width, first="  - ", indent=_INDENT)
    return lines


def _is_explained(verdict: Verdict, brief: bool) -> bool:
    if verdict.notes:
        return True
    # The footer says once for all tests that there is no baseline.
    return verdict.kind is not VerdictKind.NO_BASELINE and not (
        brief and verdict.kind is VerdictKind.PASS
    )


def _shared_facts(
    explained: Sequence[_Explained], known: Collection[str]
) -> dict[tuple[str, ...], list[str]]:
    """Facts that hold for more than one metric, by the metrics' labels."""
    holders: dict[str, list[str]] = {}
    for one in explained:
        for fact in one.verdict.facts:
            holders.setdefault(fact, []).append(one.label)
    shared: dict[tuple[str, ...], list[str]] = {}
    for fact, labels in holders.items():
        if len(labels) > 1 and fact not in known:
            shared.setdefault(tuple(labels), []).append(fact)
    return shared


def _claims(explained: Sequence[_Explained], said: Collection[str], width: int) -> list[str]:
    """One line per claim; metrics with the same claim share it."""
    groups: dict[tuple[VerdictKind, str, tuple[str, ...]], list[str]] = {}
    for one in explained:
        verdict = one.verdict
        own = ", ".join(fact for fact in verdict.facts if fact not in said)
        claim = (verdict.claim.splitlines() or [""])[0]
        text = "; ".join(part for part in (claim, own) if part)
        groups.setdefault((verdict.kind, text, verdict.notes), []).append(one.label)
    lines: list[str] = []
    for (kind, text, notes), labels in groups.items():
        # A pass is the rule: its lines stay short, and begin with what tells them apart.
        lead = [] if kind is VerdictKind.PASS else [kind.value]
        lead += [] if kind in _WHOLE_TEST else [listed(labels)]
        lines += wrap_words(f"{' '.join(lead)}: {text}", width, first="  ", indent=_INDENT)
        for note in notes:
            lines += wrap_words(note, width, first=_INDENT, indent=_INDENT + "  ")
    return lines


def _targets_met(rows: Sequence[CheckResult]) -> Iterator[str]:
    """The targets that are met, with the evidence that they are."""
    met: dict[float, list[str]] = {}
    for row in rows:
        verdict = row.verdict
        for reason in verdict.reasons if verdict and verdict.kind in _MET else ():
            proof = reason.proof
            if reason.strategy != "target" or proof is None or proof.log_evidence is None:
                continue
            assert proof.log_threshold is not None
            shown = f"{odds(proof.log_evidence)} ({row.label})"
            met.setdefault(proof.log_threshold, []).append(shown)
    for threshold, each in met.items():
        lead = "target met" if len(each) == 1 else "targets met"
        yield f"{lead}: evidence {', '.join(each)}; {needed_words(threshold)}"


def _reach(explained: Sequence[_Explained]) -> Iterator[str]:
    """The effects that the stored sessions can show: once where all metrics have the same."""
    proofs = [
        (one, one.verdict.proof)
        for one in explained
        if one.verdict.proof is not None and one.verdict.proof.calls_from is not None
    ]
    for sessions in sorted({proof.samples for _, proof in proofs}):
        alike = [(one, proof) for one, proof in proofs if proof.samples == sessions]
        stored = count(sessions, "stored session")
        words = {
            sensitivity_words(
                one.verdict.check.metric, proof.passes_up_to or 0.0, proof.calls_from or 0.0
            )
            for one, proof in alike
        }
        if len(words) == 1:
            yield f"{stored} can decide: {words.pop()}"
            continue
        each = [
            f"{one.label} {signed(proof.passes_up_to or 0.0)}, {signed(proof.calls_from or 0.0)}"
            for one, proof in alike
        ]
        yield f"{stored} can decide (passes up to, regressed from): {'; '.join(each)}"
