"""Combines the verdicts of all strategies into one per test and metric, by precedence."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.gate.creeping import CreepingStrategy
from pytest_llmperf.gate.family import share_alarms
from pytest_llmperf.gate.interleaved import InterleavedStrategy
from pytest_llmperf.gate.rules import FALSE_ALARMS
from pytest_llmperf.gate.screening import ScreeningStrategy
from pytest_llmperf.gate.stalls import StallLimitStrategy, StallStrategy
from pytest_llmperf.gate.target import TargetStrategy
from pytest_llmperf.gate.validity import ValidityStrategy
from pytest_llmperf.gate.verdict import Verdict, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmperf.gate.check import Evidence
    from pytest_llmperf.gate.protocol import Strategy

#: The strategies that judge a check; of equal verdicts, the earlier strategy's wins.
STRATEGIES: tuple[Strategy, ...] = (
    ValidityStrategy(),
    InterleavedStrategy(),
    ScreeningStrategy(),
    CreepingStrategy(),
    StallStrategy(),
    StallLimitStrategy(),
    TargetStrategy(),
)

#: Kinds after which no other strategy is asked, because void numbers prove nothing.
_FINAL = frozenset({VerdictKind.ERROR, VerdictKind.INVALID})
#: Explanations of these kinds are worth a line next to another verdict.
_WORTH_A_NOTE = frozenset(VerdictKind) - {VerdictKind.PASS, VerdictKind.NO_BASELINE}


def judge_session(session: Sequence[Evidence], alpha: float = FALSE_ALARMS) -> list[Verdict | None]:
    """Judge every gated check of a session, in order; None for metrics that are only shown.

    ``alpha``: chance that any check with a negligible change is called ``regressed``.
    """
    return [
        judge(evidence) if evidence.check.gated else None
        for evidence in share_alarms(session, alpha)
    ]


def judge(evidence: Evidence, strategies: Sequence[Strategy] = STRATEGIES) -> Verdict:
    """Judge one metric of one test.

    The verdict that comes first in the order of precedence wins; the others are
    kept in ``reasons``, and as ``notes`` unless they found nothing wrong, so that a
    regression that also misses its target shows both.

    Raises:
        ValueError: no strategy gave a verdict.
    """
    verdicts: list[Verdict] = []
    for strategy in strategies:
        verdict = strategy.judge(evidence)
        if verdict is None:
            continue
        verdicts.append(verdict)
        if verdict.kind in _FINAL:
            verdicts = [verdict]
            break
    if not verdicts:
        raise ValueError(f"no strategy judges {evidence.check.metric.name} of {evidence.nodeid}")
    if verdicts[0].strategy == ValidityStrategy.name:
        # Too few samples fail no test, however clear they look.
        verdicts = [v for v in verdicts if v.kind.rank >= verdicts[0].kind.rank]
    winner = _winner(verdicts)
    others = [verdict for verdict in verdicts if verdict is not winner]
    return replace(
        winner,
        # A missed target does not decide the comparison with the past, nor the reverse.
        open=any(verdict.open for verdict in verdicts),
        stopped_by=next((verdict.stopped_by for verdict in verdicts if verdict.stopped_by), ""),
        notes=winner.notes + tuple(_note(v) for v in others if v.kind in _WORTH_A_NOTE),
        reasons=tuple(reason for v in (winner, *others) for reason in v.reasons),
    )


def _winner(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict that comes first; a target that is met does not outrank an improvement."""
    improved = [verdict for verdict in verdicts if verdict.kind is VerdictKind.IMPROVED]
    if improved and all(v.kind in (VerdictKind.IMPROVED, VerdictKind.PASS) for v in verdicts):
        return improved[0]
    return worst(verdicts)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that comes first in the order of precedence; the earliest of equals.

    Raises:
        ValueError: there are no verdicts.
    """
    return min(verdicts, key=lambda verdict: verdict.kind.rank)


def verdict_per_quantity(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Reduce a test's verdicts to one per quantity: metrics of one quantity are one check.

    For example, tokens per second and time per output token share the worse of their verdicts.
    """
    by_quantity: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.check.gated:
            by_quantity.setdefault(verdict.check.metric.quantity, []).append(verdict)
    return [worst(group) for group in by_quantity.values()]


def count_kinds(tests: Iterable[Sequence[Verdict]]) -> dict[VerdictKind, int]:
    """Count the checks of each kind, over all tests, in the order of precedence."""
    counts = Counter(
        verdict.kind for verdicts in tests for verdict in verdict_per_quantity(verdicts)
    )
    return {kind: counts[kind] for kind in VerdictKind if counts[kind]}


def _note(verdict: Verdict) -> str:
    """Return the text of a verdict that did not win: its kind and its claim."""
    return f"also {verdict.kind.value}: {verdict.claim}"
