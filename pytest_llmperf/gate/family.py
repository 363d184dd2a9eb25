"""Division of the session's false-alarm rate among its checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_llmperf.gate.numbers import is_comparable, paired_differences, target_differences
from pytest_llmperf.gate.rules import CREEP_SHARE, FALSE_ALARMS
from pytest_llmperf.gate.sequential import may_be_called, sequential_evidence, zone_of
from pytest_llmperf.gate.stalls import is_many_more, log_beyond_limit, log_more_stalls
from pytest_llmperf.gate.stored import has_anchor, screen

if TYPE_CHECKING:
    from pytest_llmperf.gate.check import Evidence


def share_alarms(session: Sequence[Evidence], alpha: float = FALSE_ALARMS) -> list[Evidence]:
    """Give every check of a session its share of the false-alarm rate, in the same order.

    Holm's procedure: with m checks each starts at alpha/m, and every check that is
    called raises the share of the others. Comparisons and targets are two
    families. Metrics of one test that measure the same quantity count as one check.
    """
    shared = list(session)
    for strength in (_interleaved, _stored):
        for index, share in _shares_of(shared, strength, alpha):
            shared[index] = replace(shared[index], comparison_alpha=share)
    for index, share in _shares_of(shared, _target, alpha):
        shared[index] = replace(shared[index], target_alpha=share)
    return shared


#: Evidence against one check: its strength, on its family's scale, and whether it may be called.
_Strength = tuple[float, bool]
_NONE: _Strength = (0.0, False)


def _shares_of(
    session: Sequence[Evidence],
    strength: Callable[[Evidence], _Strength | None],
    alpha: float,
) -> Iterator[tuple[int, float]]:
    """Yield the index and the share of every check of one family."""
    members: dict[tuple[str, str], list[tuple[int, _Strength]]] = {}
    for index, evidence in enumerate(session):
        if not evidence.check.gated:
            continue
        try:
            against = strength(evidence)
        except ValueError:
            against = _NONE  # unusable samples are an error of that check, not of the session
        if against is not None:
            if evidence.error is not None or evidence.invalid:
                # It can't be called, but it counts: the number of checks must not
                # depend on the noise.
                against = _NONE
            key = (evidence.nodeid, evidence.check.metric.quantity)
            members.setdefault(key, []).append((index, against))
    if members:
        strongest = [max(against for _, against in group) for group in members.values()]
        for group, share in zip(members.values(), _shares(strongest, alpha), strict=True):
            for index, _ in group:
                yield index, share


def _shares(strengths: Sequence[_Strength], alpha: float) -> list[float]:
    """Return each check's share of ``alpha`` by Holm's procedure, in the same order."""
    import numpy as np

    from pytest_llmperf.stats.holm import alarm_levels

    logs = np.array([strength for strength, _ in strengths])
    eligible = np.array([may for _, may in strengths])
    levels = alarm_levels(logs, alpha, eligible=eligible)
    return [float(share) for share in np.exp(-levels)]


def _interleaved(evidence: Evidence) -> _Strength | None:
    if evidence.pairs is None:
        return None
    if evidence.check.metric.kind == "share":
        return log_more_stalls(evidence), is_many_more(evidence)
    tolerance = evidence.check.tolerance
    state = sequential_evidence(paired_differences(evidence), tolerance, evidence.check.metric)
    return state.log_worse, may_be_called(state, tolerance)


def _stored(evidence: Evidence) -> _Strength | None:
    """Return the strength of a comparison with stored sessions, ln(1/p); p <= share calls it."""
    view = evidence.baseline
    if evidence.pairs is not None or view is None or not is_comparable(view):
        return None
    if evidence.check.metric.kind == "share":
        return None
    comparison = screen(evidence)
    if comparison is None:
        return _NONE
    share = CREEP_SHARE if has_anchor(evidence) else 1.0
    strength = -math.log(max(comparison.p_worse / share, 1e-300))
    return strength, comparison.effect >= zone_of(evidence.check.tolerance).min_called


def _target(evidence: Evidence) -> _Strength | None:
    if evidence.check.limit is None:
        return None
    metric = evidence.check.metric
    if metric.kind == "share":
        return log_beyond_limit(evidence), True
    state = sequential_evidence(target_differences(evidence), 0.0, metric)
    return state.log_worse, may_be_called(state, 0.0)
