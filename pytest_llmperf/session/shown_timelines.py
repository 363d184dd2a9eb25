"""Timelines of single iterations, picked from a test's samples to be shown in a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

from pytest_llmperf.measure.samples import BASE, CANDIDATE
from pytest_llmperf.stored_json import Bounded, Positive, Stored, Whole, expect

if TYPE_CHECKING:
    from pytest_llmperf.measure.samples import ProcessSample, TestSamples

#: Maximum number of values per iteration; in long answers each is the longest of several gaps.
MAX_GAPS = 600
#: A gap this many times longer than the iteration's median gap is shown as a stall.
STALL_FACTOR = 3.0


@dataclass(frozen=True)
class ShownTimeline(Stored):
    """One iteration: its first tokens, and the gaps between its output tokens.

    Attributes:
        side: CANDIDATE or BASE.
        picked: ``typical`` (nearest to the median duration), or ``slowest``.
        process: number of the process in the session, from 0.
        iteration: number of the iteration in that process, from 0.
        seconds: time from end to end, all requests together.
        first_tokens: seconds to the first token of each request.
        gaps: seconds between output tokens, of all requests one after the other.
        gaps_per_value: number of gaps that each value in ``gaps`` is the longest of.
        requests: index in ``gaps`` at which each request begins.
        stalls: indices of the gaps that are stalls.
    """

    side: Annotated[str, expect(f"{CANDIDATE} or {BASE}", (CANDIDATE, BASE).__contains__)]
    picked: Literal["typical", "slowest"]
    process: Whole
    iteration: Whole
    seconds: Bounded
    first_tokens: tuple[Bounded, ...]
    gaps: tuple[Bounded, ...]
    gaps_per_value: Positive
    requests: tuple[Whole, ...]
    stalls: tuple[Whole, ...]


def shown_timelines(samples: TestSamples) -> tuple[ShownTimeline, ...]:
    """Pick the candidate's typical and slowest iteration, and the base's typical one.

    Pairs of earlier sessions have none.
    """
    timelines = []
    for side in (CANDIDATE, BASE):
        iterations = list(_iterations([s for s in samples.processes if s.side == side]))
        if not iterations:
            continue
        middle = median(iteration.seconds for iteration in iterations)
        typical = min(iterations, key=lambda iteration: abs(iteration.seconds - middle))
        timelines.append(typical.shown(side, "typical"))
        slowest = max(iterations, key=lambda iteration: iteration.seconds)
        if side == CANDIDATE and slowest is not typical:
            timelines.append(slowest.shown(side, "slowest"))
    return tuple(timelines)


@dataclass(frozen=True)
class _Iteration:
    sample: ProcessSample
    number: int
    seconds: float
    first_tokens: tuple[float, ...]
    requests: tuple[tuple[float, ...], ...]

    def shown(self, side: str, picked: Literal["typical", "slowest"]) -> ShownTimeline:
        total = sum(map(len, self.requests))
        chunk = -(-total // MAX_GAPS) or 1
        gaps: list[float] = []
        begins = []
        for request in self.requests:
            begins.append(len(gaps))
            gaps += [max(request[i : i + chunk]) for i in range(0, len(request), chunk)]
        all_gaps = [gap for request in self.requests for gap in request]
        limit = STALL_FACTOR * median(all_gaps) if all_gaps else 0.0
        return ShownTimeline(
            side=side,
            picked=picked,
            process=self.sample.process,
            iteration=self.number,
            seconds=self.seconds,
            first_tokens=self.first_tokens,
            gaps=tuple(gaps),
            gaps_per_value=chunk,
            requests=tuple(begins),
            stalls=tuple(index for index, gap in enumerate(gaps) if gap > limit),
        )


def _iterations(processes: Sequence[ProcessSample]) -> Iterator[_Iteration]:
    """Yield every counted iteration whose gaps are known."""
    for sample in processes:
        gaps, first = sample.pooled.get("inter_token", ()), sample.pooled.get("first_token", ())
        counts = sample.gap_counts
        if len(first) != sum(map(len, counts)) or len(gaps) != sum(map(sum, counts)):
            continue  # a request without a token
        gap = request = 0
        for number, (values, sizes) in enumerate(zip(sample.iterations, counts, strict=False)):
            pieces = []
            for size in sizes:
                pieces.append(gaps[gap : gap + size])
                gap += size
            begin, request = request, request + len(sizes)
            if any(sizes) and "end_to_end" in values:
                yield _Iteration(
                    sample, number, values["end_to_end"], first[begin:request], tuple(pieces)
                )
