"""Explanations of a test's verdicts, as lines below its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmperf.gate.rules import LOG_PASS
from pytest_llmperf.gate.verdict import VerdictKind
from pytest_llmperf.gate.words import count, listed, needed_words, odds, sensitivity_words
from pytest_llmperf.report.disturbances import brief_claim
from pytest_llmperf.text import wrap_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pytest_llmperf.gate.verdict import Verdict
    from pytest_llmperf.session.result import CheckResult, TestResult

_INDENT = "    "
#: Kinds of verdict explained for the whole test rather than by one metric's numbers.
_WHOLE_TEST = frozenset({VerdictKind.INVALID, VerdictKind.WORKLOAD_CHANGED})
_MET = frozenset({VerdictKind.PASS, VerdictKind.IMPROVED, VerdictKind.NO_BASELINE})


def explanations(
    test: TestResult,
    width: int,
    known: Collection[str],
    *,
    passes: bool,
    disturbed: Collection[str] = (),
) -> list[str]:
    """Explain a test's verdicts, one line per metric and per fact that they share.

    Args:
        test: the test.
        width: columns of the terminal.
        known: facts that are stated elsewhere.
        passes: explain passes, too.
        disturbed: machine checks whose findings the session lists.
    """
    explained = [
        (row.label, row.verdict)
        for row in test.all_rows
        if row.verdict is not None and _is_explained(row.verdict, passes)
    ]
    shared = _shared_facts(explained, known)
    stated = {*known, *(fact for facts in shared.values() for fact in facts)}
    lines = _claims(explained, stated, width, disturbed)
    for text in (*(_targets_met(test.rows) if passes else ()), *_sensitivity(explained)):
        lines += wrap_words(text, width, first="  ", indent=_INDENT)
    for labels, facts in shared.items():
        holders = "" if len(labels) == len(explained) else f" ({listed(labels)})"
        lines += wrap_words(f"{', '.join(facts)}{holders}", width, first="  ", indent=_INDENT)
    for cause in test.causes:
        lines += wrap_words(f"likely cause: {cause}", width, first="  - ", indent=_INDENT)
    for finding in test.findings:
        lines += wrap_words(finding, width, first="  - ", indent=_INDENT)
    return lines


def common_facts(tests: Sequence[TestResult]) -> list[str]:
    """Return the facts to state once per session: the evidence a pass needs, and the tolerance."""
    facts = [fact for test in tests for verdict in test.verdicts for fact in verdict.facts]
    common = [fact for fact in dict.fromkeys(facts) if fact == needed_words(LOG_PASS, "to pass")]
    return common + common_tolerance(tests)


def common_tolerance(tests: Sequence[TestResult]) -> list[str]:
    """Return the fact about the tolerance, if all checks have the same; else an empty list."""
    facts = (fact for test in tests for verdict in test.verdicts for fact in verdict.facts)
    tolerances = {fact for fact in facts if fact.startswith("tolerance ")}
    return list(tolerances) if len(tolerances) == 1 else []


def _is_explained(verdict: Verdict, passes: bool) -> bool:
    if verdict.notes:
        return True
    # The footer says once for all tests that there is no baseline.
    return verdict.kind is not VerdictKind.NO_BASELINE and (
        passes or verdict.kind not in (VerdictKind.PASS, VerdictKind.IMPROVED)
    )


def _shared_facts(
    explained: Sequence[tuple[str, Verdict]], known: Collection[str]
) -> dict[tuple[str, ...], list[str]]:
    """Return facts that hold for more than one metric, by the metrics' labels."""
    holders: dict[str, list[str]] = {}
    for label, verdict in explained:
        for fact in verdict.facts:
            holders.setdefault(fact, []).append(label)
    shared: dict[tuple[str, ...], list[str]] = {}
    for fact, labels in holders.items():
        if len(labels) > 1 and fact not in known:
            shared.setdefault(tuple(labels), []).append(fact)
    return shared


def _claims(
    explained: Sequence[tuple[str, Verdict]],
    said: Collection[str],
    width: int,
    disturbed: Collection[str],
) -> list[str]:
    """Write one line per claim; metrics with the same claim share it."""
    groups: dict[tuple[VerdictKind, str, tuple[str, ...]], list[str]] = {}
    for label, verdict in explained:
        own = ", ".join(fact for fact in verdict.facts if fact not in said)
        claim = brief_claim(verdict.kind, verdict.claim, disturbed)
        claim = (claim.splitlines() or [""])[0]
        text = "; ".join(part for part in (claim, own) if part)
        groups.setdefault((verdict.kind, text, verdict.notes), []).append(label)
    lines: list[str] = []
    for (kind, text, notes), labels in groups.items():
        # Passes are common, so their lines stay short and omit the verdict.
        lead = [] if kind is VerdictKind.PASS else [kind.value]
        lead += [] if kind in _WHOLE_TEST else [listed(labels)]
        lines += wrap_words(f"{' '.join(lead)}: {text}", width, first="  ", indent=_INDENT)
        for note in notes:
            lines += wrap_words(note, width, first=_INDENT, indent=_INDENT + "  ")
    return lines


def _targets_met(rows: Sequence[CheckResult]) -> Iterator[str]:
    """List the met targets with their evidence."""
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
    for threshold, metrics in met.items():
        lead = "target met" if len(metrics) == 1 else "targets met"
        yield f"{lead}: evidence {', '.join(metrics)}; {needed_words(threshold)}"


def _sensitivity(explained: Sequence[tuple[str, Verdict]]) -> Iterator[str]:
    """List the effects that stored sessions can decide; metrics with the same ones share a text."""
    ends: dict[int, dict[str, list[str]]] = {}
    for label, verdict in explained:
        proof = verdict.proof
        if proof is not None and proof.calls_from is not None:
            words = sensitivity_words(
                verdict.check.metric, proof.passes_up_to or 0.0, proof.calls_from
            )
            ends.setdefault(proof.samples, {}).setdefault(words, []).append(label)
    for sessions, by_words in sorted(ends.items()):
        stored = count(sessions, "stored session")
        if len(by_words) == 1:
            yield f"{stored} can decide: {next(iter(by_words))}"
        else:
            texts = (f"{listed(labels)} {words}" for words, labels in by_words.items())
            yield f"{stored} can decide: {'; '.join(texts)}"
