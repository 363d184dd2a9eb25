from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_llmperf.engine.wire import decode, encode
from pytest_llmperf.metrics import METRICS, compute_all
from pytest_llmperf.run import Run
from pytest_llmperf.timeline import Timeline

#: Slow examples on a busy machine are not failures.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: Metrics that need a load, or an engine that reports reasoning separately.
OF_SERVERS = {
    *("request_latency", "requests_per_sec", "output_tokens_per_sec", "goodput", "error_rate"),
    "first_answer_token",
}

seconds = st.floats(1e-4, 100.0)


@st.composite
def timelines(draw: st.DrawFn, least: int = 2) -> Timeline:
    t_start = draw(st.floats(0.0, 1e4))
    tokenize, prefill = draw(seconds), draw(seconds)
    gaps = draw(st.lists(seconds, min_size=least, max_size=20))
    end = t_start + tokenize + prefill
    tokens = draw(st.integers(1, 5000))
    times = tuple(accumulate(gaps, initial=end))[1:]
    return Timeline(t_start, times, tokens, tokens, t_start + tokenize, end)


workloads = st.lists(timelines(), min_size=1, max_size=5)


def shifted(timeline: Timeline, by: float, scale: float = 1.0) -> Timeline:
    assert timeline.t_prefill_start is not None
    assert timeline.t_prefill_end is not None
    return replace(
        timeline,
        t_start=timeline.t_start * scale + by,
        token_times=tuple(t * scale + by for t in timeline.token_times),
        t_prefill_start=timeline.t_prefill_start * scale + by,
        t_prefill_end=timeline.t_prefill_end * scale + by,
    )


@patient
@given(workloads)
def test_every_metric_is_defined_and_positive(requests: list[Timeline]) -> None:
    values = compute_all(Run.in_order(requests))

    assert set(values) == {
        name
        for name, metric in METRICS.items()
        if metric.kind == "value" and not metric.beside and name not in OF_SERVERS
    }
    assert all(value > 0 for value in values.values())


@patient
@given(workloads)
def test_the_two_forms_of_the_decode_rate_are_reciprocal(requests: list[Timeline]) -> None:
    values = compute_all(Run.in_order(requests))

    assert values["tokens_per_sec"] * values["time_per_output_token"] == pytest.approx(1)


@patient
@given(workloads)
def test_a_request_lasts_longer_than_its_first_token(requests: list[Timeline]) -> None:
    values = compute_all(Run.in_order(requests))

    assert values["end_to_end"] > values["first_token"]


@patient
@given(workloads, st.floats(-1e4, 1e4))
def test_when_it_happened_makes_no_difference(requests: list[Timeline], by: float) -> None:
    moved = compute_all(Run.in_order(shifted(request, by) for request in requests))

    assert moved == pytest.approx(compute_all(Run.in_order(requests)), rel=1e-4)


@patient
@given(workloads, st.integers(0, 10).map(lambda power: 2.0**power))
def test_twice_as_slow_is_a_slowdown_of_one_in_every_metric(
    requests: list[Timeline], scale: float
) -> None:
    before = compute_all(Run.in_order(requests))

    after = compute_all(Run.in_order(shifted(request, 0.0, scale) for request in requests))

    for name, metric in METRICS.items():
        if metric.kind != "value" or metric.beside or name in OF_SERVERS:
            continue
        assert metric.slowdown(after[name], before[name]) == pytest.approx(scale - 1, rel=1e-6)


@patient
@given(workloads, st.randoms(use_true_random=False))
def test_the_order_of_requests_makes_no_difference(
    requests: list[Timeline], random: object
) -> None:
    other = sorted(requests, key=lambda _: random.random())  # type: ignore[attr-defined]

    assert compute_all(Run.in_order(other)) == pytest.approx(compute_all(Run.in_order(requests)))


@patient
@given(workloads)
def test_the_pooled_rate_lies_between_the_slowest_and_the_fastest(
    requests: list[Timeline],
) -> None:
    rates = [compute_all(Run.in_order([request]))["tokens_per_sec"] for request in requests]

    pooled = compute_all(Run.in_order(requests))["tokens_per_sec"]

    assert min(rates) <= pooled * (1 + 1e-9)
    assert pooled <= max(rates) * (1 + 1e-9)


@patient
@given(timelines(least=0))
def test_a_timeline_survives_the_wire(timeline: Timeline) -> None:
    assert Timeline.from_wire(decode(encode(timeline.to_wire()))) == timeline


@patient
@given(timelines())
def test_gaps_add_up_to_the_time_between_first_and_last_token(timeline: Timeline) -> None:
    assert len(timeline.gaps()) == timeline.output_tokens - 1
    assert sum(timeline.gaps()) == pytest.approx(
        timeline.token_times[-1] - timeline.token_times[0], abs=1e-6
    )
