"""Delay of answers while the server evaluates other requests' prompts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from pytest_llmperf.engine.server.load_result import RequestOutcome
from pytest_llmperf.stats.percentiles import percentile

_Span = tuple[float, float]

#: Fewer gaps of either kind differ by chance. Beyond this share beside a prompt, requests queue.
_MIN_GAPS, _MOST = 8, 0.6
#: A quarter of the gaps beside a prompt must be at least this many times as long as usual. They
#: are not if requests mostly wait in a queue, or if the server merely hiccups.
_LONGER, _QUARTER = 2.0, 75.0


@dataclass(frozen=True)
class PromptStalls:
    """Gaps between the chunks of answers while another request waits for its first chunk.

    Attributes:
        share: their excess over usual gaps, as a share of all time between chunks.
        beside: mean of these gaps, seconds.
        usual: mean of all other gaps, seconds.
    """

    share: float
    beside: float
    usual: float


def prompt_stalls(outcomes: Sequence[RequestOutcome]) -> PromptStalls | None:
    """Return the stalls of a load; None without any, or if their cause is unclear."""
    reading = _merged(
        (o.due if o.sent is None else o.sent, o.times[0]) for o in outcomes if o.times
    )
    beside: list[float] = []
    others: list[float] = []
    for outcome in outcomes:
        for span in pairwise(outcome.times):
            (beside if _overlaps(span, reading) else others).append(_length(span))
    if min(len(beside), len(others)) < _MIN_GAPS:
        return None
    if len(beside) > _MOST * (len(beside) + len(others)):
        return None
    mean, usual = fmean(beside), fmean(others)
    # ``usual`` is 0 if chunks arrived several at once.
    if not usual or percentile(beside, _QUARTER) < _LONGER * usual:
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
    index = bisect_right(merged, span[0], key=lambda other: other[1])
    return index < len(merged) and merged[index][0] < span[1]
