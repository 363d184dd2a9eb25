"""Selection of the tests that more samples could still decide, by the verdicts so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from pytest_llmperf.gate.verdict import Proof, Verdict, VerdictKind
from pytest_llmperf.gate.without_turns import contradiction
from pytest_llmperf.gate.words import open_words
from pytest_llmperf.measure.rounds import OpenTest
from pytest_llmperf.session.result import CheckResult


def open_tests(results: Iterable[CheckResult]) -> Mapping[str, OpenTest]:
    """Return the tests that more samples could still decide, and what is undecided in each.

    A test with a regressed metric is decided: its other metrics are not measured further.
    """
    waiting: dict[str, list[Verdict]] = {}
    seconds: dict[str, float] = {}
    pairs: dict[str, float] = {}
    alone, decided = set(), set()
    for result in results:
        nodeid, verdict = result.evidence.nodeid, result.verdict
        if verdict is None:
            continue
        if verdict.kind is VerdictKind.REGRESSED:
            decided.add(nodeid)
        elif verdict.open:
            waiting.setdefault(nodeid, []).append(verdict)
            for proof in _undecided(verdict):
                if proof.more_seconds is not None:
                    seconds[nodeid] = max(seconds.get(nodeid, 0.0), proof.more_seconds)
                if proof.low is not None:
                    more = math.inf if proof.more is None else proof.more
                    pairs[nodeid] = max(pairs.get(nodeid, 0.0), more)
        elif (conflict := contradiction(result.evidence)) and not conflict.proven:
            alone.add(nodeid)
    found_open = {
        nodeid: OpenTest(
            metrics={verdict.check.metric.name for verdict in verdicts},
            texts=tuple(map(open_words, verdicts)),
            seconds=seconds.get(nodeid),
            pairs=pairs.get(nodeid, 0.0),
        )
        for nodeid, verdicts in waiting.items()
    }
    # Tests still undecided in turns go on as such: that may settle the contradiction.
    found_open |= {
        nodeid: OpenTest(without_turns=True) for nodeid in alone if nodeid not in waiting
    }
    return {nodeid: state for nodeid, state in found_open.items() if nodeid not in decided}


def _undecided(verdict: Verdict) -> Iterator[Proof]:
    """Yield the proofs of undecided strategies, such as the comparison beside a missed target."""
    for reason in verdict.reasons:
        if reason.kind is VerdictKind.INCONCLUSIVE and reason.proof is not None:
            yield reason.proof
