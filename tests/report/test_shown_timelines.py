"""Which iterations a report shows token by token."""

from __future__ import annotations

import pytest

from pytest_llmperf.measure.process_sample import BASE, CANDIDATE, ProcessSample
from pytest_llmperf.measure.samples import TestSamples
from pytest_llmperf.session.shown_timelines import MAX_GAPS, shown_timelines


def process(
    *iterations: list[list[float]], number: int = 0, side: str = CANDIDATE, first: float = 0.5
) -> ProcessSample:
    """Return a process whose iterations have these gaps, by request."""
    requests = [gaps for iteration in iterations for gaps in iteration]
    return ProcessSample(
        number,
        tuple({"end_to_end": sum(first + sum(gaps) for gaps in run)} for run in iterations),
        side=side,
        pooled={
            "inter_token": tuple(gap for gaps in requests for gap in gaps),
            "first_token": (first,) * len(requests),
        },
        gap_counts=tuple(tuple(map(len, run)) for run in iterations),
    )


def test_the_typical_and_the_slowest_iteration_are_shown_and_the_bases_typical_one() -> None:
    own = process([[0.1, 0.1]], [[0.1, 0.9]], [[0.1, 0.11]], number=4)
    base = process([[0.2, 0.2]], number=5, side=BASE)
    typical, slowest, other = shown_timelines(TestSamples([own, base]))
    assert (typical.picked, typical.iteration, typical.gaps) == ("typical", 2, (0.1, 0.11))
    assert (slowest.picked, slowest.iteration, slowest.gaps) == ("slowest", 1, (0.1, 0.9))
    assert (other.side, other.picked, other.process) == (BASE, "typical", 5)
    assert typical.seconds == pytest.approx(0.71)
    assert typical.first_tokens == (0.5,)


def test_a_stall_is_a_gap_of_over_three_times_the_median() -> None:
    (timeline,) = shown_timelines(TestSamples([process([[0.1, 0.1, 0.3, 0.1, 0.301, 0.1]])]))
    assert timeline.stalls == (4,)


def test_requests_follow_one_another() -> None:
    (timeline,) = shown_timelines(TestSamples([process([[0.1, 0.2], [], [0.3]])]))
    assert (timeline.gaps, timeline.requests) == ((0.1, 0.2, 0.3), (0, 2, 2))
    assert len(timeline.first_tokens) == 3


def test_a_long_answer_is_thinned_and_keeps_its_longest_gaps() -> None:
    gaps = [0.01] * 4_000
    gaps[2_345] = 1.0
    (timeline,) = shown_timelines(TestSamples([process([gaps])]))
    assert len(timeline.gaps) <= MAX_GAPS
    assert max(timeline.gaps) == 1.0
    assert timeline.stalls == (2_345 // timeline.gaps_per_value,)


def test_iterations_of_unknown_gaps_are_left_out() -> None:
    earlier = ProcessSample(-1, ({"end_to_end": 1.0},), pooled={"inter_token": (0.1, 0.2)})
    no_token = process([[0.1]], [[0.2]])
    no_token.pooled["first_token"] = (0.5,)
    single = process([[]])
    assert shown_timelines(TestSamples([earlier, no_token, single])) == ()
