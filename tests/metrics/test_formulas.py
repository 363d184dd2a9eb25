"""Metrics compared with values computed by hand, on timelines with round numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.metrics import METRICS, Direction, UnknownMetricError, compute_all, get_metric
from pytest_llmperf.run import Dispatch, Run
from pytest_llmperf.timeline import Timeline

# 100 tokens of prompt in 0.5 s; first token at 1.0 s, then gaps of 0.1, 0.1, 0.4 s.
ONE = Timeline(
    t_start=10.0,
    token_times=(11.0, 11.1, 11.2, 11.6),
    prompt_tokens=100,
    prompt_tokens_evaluated=100,
    t_prefill_start=10.25,
    t_prefill_end=10.75,
)
# 50 tokens of prompt in 0.5 s; first token at 2.0 s, then one gap of 0.2 s.
TWO = Timeline(
    t_start=20.0,
    token_times=(22.0, 22.2),
    prompt_tokens=60,
    prompt_tokens_evaluated=50,
    t_prefill_start=20.0,
    t_prefill_end=20.5,
)
SINGLE = Timeline(t_start=0.0, token_times=(3.0,))


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("tokens_per_sec", 3 / 0.6),
        ("time_per_output_token", 0.6 / 3),
        ("first_token", 1.0),
        ("end_to_end", 1.6),
        ("prefill_tokens_per_sec", 200.0),
        ("inter_token", 0.1),
    ],
)
def test_one_request(metric: str, value: float) -> None:
    assert METRICS[metric].compute(Run.in_order([ONE])) == pytest.approx(value)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        # Rates pool tokens and time; they are not means of rates.
        ("tokens_per_sec", (3 + 1) / (0.6 + 0.2)),
        ("time_per_output_token", (0.6 + 0.2) / (3 + 1)),
        ("prefill_tokens_per_sec", (100 + 50) / (0.5 + 0.5)),
        ("first_token", 1.5),
        ("end_to_end", 1.6 + 2.2),
        # Of 0.1, 0.1, 0.2, 0.4.
        ("inter_token", 0.15),
    ],
)
def test_several_requests_are_pooled(metric: str, value: float) -> None:
    assert METRICS[metric].compute(Run.in_order([ONE, TWO])) == pytest.approx(value)


def test_a_request_of_one_token_adds_nothing_to_the_decode_rate() -> None:
    assert METRICS["tokens_per_sec"].compute(Run.in_order([ONE, SINGLE])) == pytest.approx(3 / 0.6)


def test_one_token_has_no_decode_rate_and_no_prefill_times() -> None:
    assert compute_all(Run.in_order([SINGLE])) == {"first_token": 3.0, "end_to_end": 3.0}


def test_no_token_has_no_metric_but_prefill() -> None:
    silent = Timeline(0.0, (), 10, 10, 0.0, 0.5)

    assert compute_all(Run.in_order([silent])) == {"prefill_tokens_per_sec": 20.0}


def test_no_request_has_no_metric() -> None:
    assert compute_all(Run.in_order([])) == {}


def test_a_request_without_tokens_has_no_end_to_end() -> None:
    assert METRICS["end_to_end"].compute(Run.in_order([ONE, Timeline(0.0, ())])) is None


def test_a_load_has_rates_over_its_window_and_shares_of_what_was_sent() -> None:
    answers = (Timeline(0.0, (1.0, 2.0)), Timeline(1.0, (3.0, 5.0), t_first_answer=4.0))
    run = Run(answers, (Dispatch(0.0, 0.0), Dispatch(1.0, 1.0)), (0.0, 10.0), sent=4, good=1)

    values = compute_all(run)

    assert values["requests_per_sec"] == 0.2
    assert values["output_tokens_per_sec"] == 0.4
    assert values["request_latency"] == 3.0
    assert values["first_answer_token"] == 3.0
    assert values["error_rate"] == 0.5
    assert values["goodput"] == 0.25
    assert "end_to_end" not in values
    assert "goodput" not in compute_all(replace(run, good=None))


def test_tokens_that_arrived_at_one_moment_have_no_rate() -> None:
    at_once = Timeline(0.0, (1.0, 1.0, 1.0))

    assert compute_all(Run.in_order([at_once])) == {"first_token": 1.0, "end_to_end": 1.0}


def test_one_request_that_does_not_say_when_it_prefilled_hides_the_pooled_rate() -> None:
    assert METRICS["prefill_tokens_per_sec"].compute(Run.in_order([ONE, SINGLE])) is None


@pytest.mark.parametrize(
    ("metric", "worse"),
    [("tokens_per_sec", 90.0), ("first_token", 110.0), ("end_to_end", 110.0)],
)
def test_a_slowdown_is_positive_whichever_way_is_better(metric: str, worse: float) -> None:
    slowdown = METRICS[metric].slowdown(worse, 100.0)

    assert slowdown == pytest.approx(100 / 90 - 1 if worse < 100 else 0.1)
    assert METRICS[metric].slowdown(100.0, worse) < 0


def test_the_two_forms_of_the_decode_rate_are_one_quantity() -> None:
    decode = [metric.name for metric in METRICS.values() if metric.quantity == "decode"]

    assert decode == ["tokens_per_sec", "time_per_output_token", "roofline"]


def test_rates_are_better_high_and_times_low() -> None:
    for metric in METRICS.values():
        shares = ("roofline", "gpu_utilization", "goodput")
        rate = metric.name.endswith("per_sec") or metric.name in shares
        assert metric.direction is (Direction.HIGHER if rate else Direction.LOWER)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UnknownMetricError, match="'token_per_sec'; did you mean 'tokens_per_sec'"):
        get_metric("token_per_sec")
