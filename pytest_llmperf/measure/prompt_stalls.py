"""How much longer answers take because the server reads other requests' prompts meanwhile."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from pytest_llmperf.engine.server.load_result import RequestOutcome
from pytest_llmperf.stats.percentiles import percentile

_Span = tuple[float, float]

#: Fewer gaps of either kind are chance. If most have a request waiting, it waits in a queue.
_MIN_GAPS, _MOST = 8, 0.6
#: How many times as long as usual a quarter of the gaps beside a prompt must be: where requests
#: wait in a queue most of the time, or the server merely hiccups, they are not.
_LONGER, _QUARTER = 2.0, 75.0


@dataclass(frozen=True)
class PromptStalls:
    """Time between the chunks of answers while another request waits for its first one.

    Attributes:
        share: what is longer than usual of it, as a share of all time between chunks.
        beside: mean of such a gap, seconds.
        usual: mean of the other gaps, seconds.
    """

    share: float
    beside: float
    usual: float


def prompt_stalls(outcomes: Sequence[RequestOutcome]) -> PromptStalls | None:
    """Return the stalls of a load; None without any, or where the cause can't be told."""
    reading = _merged(
        (one.due if one.sent is None else one.sent, one.times[0]) for one in outcomes if one.times
    )
    beside: list[float] = []
    others: list[float] = []
    for one in outcomes:
        for span in pairwise(one.times):
            (beside if _overlaps(span, reading) else others).append(_length(span))
    if min(len(beside), len(others)) < _MIN_GAPS:
        return None
    if len(beside) > _MOST * (len(beside) + len(others)):
        return None
    mean, usual = fmean(beside), fmean(others)
    if not usual or percentile(beside, _QUARTER) < _LONGER * usual:
        # Without any time between chunks, they came several at once.
        return None
    share = (mean - usual) * len(beside) / (sum(beside) + sum(others))
    return PromptStalls(share, mean, usual)


def _length(span: _Span) -> float:
    return span[1] - span[0]


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    """Return the union of spans, in order."""
    merged: list[_Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _overlaps(span: _Span, merged: Sequence[_Span]) -> bool:
    at = bisect_right(merged, span[0], key=lambda one: one[1])
    return at < len(merged) and merged[at][0] < span[1]
