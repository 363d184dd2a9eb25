"""Figures of a load, and what makes them void."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.engine.server.answer import ServerRequest
from pytest_llmperf.engine.server.counters import ServerCounters
from pytest_llmperf.engine.server.load_result import LoadResult, RequestOutcome
from pytest_llmperf.engine.server.schedule import Schedule, closed, constant, poisson
from pytest_llmperf.engine.server.server_side import ServerSide
from pytest_llmperf.measure.load_metrics import (
    LatencyDistribution,
    chunk_gaps,
    good_answers,
    load_figures,
    values_of,
)
from pytest_llmperf.measure.load_validity import load_findings, restart_finding


def outcome(number: int = 0, due: float = 0.0, **other: Any) -> RequestOutcome:
    """Return a request sent 0.1 s late: first token 0.5 s after it was due, then every 0.2 s."""
    start = due + 0.1
    fields: dict[str, Any] = {
        "asked": start,
        "sent": start,
        "ended": start + 1.2,
        "times": array("d", (start + 0.4, start + 0.6, start + 0.8, start + 1.0)),
        "first_answer": start + 0.6,
        "first_chunk_tokens": None,
        "tokens": 4,
        "tokens_asked": 4,
        "prompt_tokens": 100,
        "cached_tokens": 0,
    }
    return RequestOutcome(number, due, **{**fields, **other})


def result(*outcomes: RequestOutcome, schedule: Schedule | None = None, **more: Any) -> LoadResult:
    window = (min(done.due for done in outcomes), max(done.ended for done in outcomes))
    return LoadResult(schedule or constant(1, requests=len(outcomes)), outcomes, window, **more)


def test_a_stable_server_with_long_answers_keeps_up() -> None:
    """The number in flight grows until the first answers end, and then no more."""
    steady = [
        outcome(at, at / 8, asked=at / 8, sent=at / 8, ended=at / 8 + 9.0) for at in range(88)
    ]
    assert load_findings(result(*steady, schedule=constant(8, requests=88))) == []


def near(value: float) -> Any:
    return pytest.approx(value)


def test_latencies_are_from_the_schedule_and_since_sending() -> None:
    requests = [outcome()]
    assert values_of(requests, "first_token") == (near(0.5),)
    assert values_of(requests, "first_token", "sent") == (near(0.4),)
    assert values_of(requests, "first_answer_token") == (near(0.7),)
    assert values_of(requests, "end_to_end") == (near(1.1),)
    assert values_of(requests, "end_to_end", "sent") == (near(1.0),)
    assert values_of(requests, "time_per_output_token") == (near(0.2),)
    assert chunk_gaps(requests) == (near(0.2), near(0.2), near(0.2))


def test_the_clients_ceiling_is_the_rate_that_would_take_its_whole_core() -> None:
    # Six requests in five seconds, failed ones included, took a quarter of the core.
    sent = [outcome(at, float(at), fault="reset" if at == 5 else None) for at in range(6)]
    window = {"window": (0.0, 5.0)}
    load = replace(result(*sent, busy=0.25, clients=2), **window)
    figures = load_figures(load)
    assert figures.client_ceiling == near(4.8)
    assert (figures.client_busy, figures.client_processes) == (0.25, 2)
    assert load_figures(replace(load, busy=0.0)).client_ceiling is None


def test_time_per_output_token_goes_by_the_servers_count() -> None:
    assert values_of([outcome(tokens=7)], "time_per_output_token") == (near(0.1),)
    assert values_of([outcome(tokens=8, first_chunk_tokens=2)], "time_per_output_token") == (
        near(0.1),
    )
    single = {"times": array("d", (1.0,))}
    for other in ({"tokens": None}, {"tokens": 1}, single, {"times": array("d")}):
        assert values_of([outcome(**other)], "time_per_output_token") == ()


def test_faults_have_no_answer_and_no_tokens() -> None:
    failed = outcome(1, 1.0, fault="reset", tokens=None, ended=4.0)
    figures = load_figures(result(outcome(), failed, outcome(2, 2.0)))
    assert (figures.requests, figures.answered, figures.seconds) == (3, 2, 4.0)
    assert (figures.faults, figures.output_tokens) == ({"reset": 1}, 8)
    assert load_figures(result(outcome(tokens=None))).output_tokens is None


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        ({}, 2),
        ({"first_token": 0.55}, 1),
        ({"first_token": 0.45}, 0),
        ({"first_token": 0.65, "time_per_output_token": 0.25}, 2),
        ({"first_token": 0.65, "time_per_output_token": 0.15}, 0),
        ({"first_answer_token": 1.0}, 1),
    ],
)
def test_goodput_counts_answers_within_all_limits(limits: dict[str, float], good: int) -> None:
    later = outcome(1, 1.0, sent=1.2, times=array("d", (1.6, 1.8, 2.0, 2.2)), first_answer=None)
    failed = outcome(2, 2.0, fault="reset")
    loaded = result(outcome(), later, failed)
    assert good_answers(loaded, limits) == good


def test_an_answer_of_one_token_has_no_time_per_token_to_be_good_in() -> None:
    single = outcome(tokens=1, times=array("d", (0.5,)), ended=2.0)
    limits = {"time_per_output_token": 0.1, "end_to_end": 1.0}
    assert good_answers(result(single), limits) == 1
    silent = outcome(tokens=0, times=array("d"), ended=2.0)
    assert good_answers(result(silent), limits) == 0


def test_percentiles_need_enough_requests() -> None:
    few = LatencyDistribution.of([float(n) for n in range(60)])
    assert few is not None
    assert (few.median, few.percentiles) == (29.5, {90.0: near(53.1)})
    assert LatencyDistribution.of([]) is None


def names(loaded: LoadResult, **more: Any) -> list[str]:
    return [finding.name for finding in load_findings(loaded, **more)]


def on_time(number: int, due: float, took: float = 1.2, **other: Any) -> RequestOutcome:
    fields = {"asked": due, "sent": due, "ended": due + took, "times": array("d", (due + 0.4,))}
    return outcome(number, due, **{**fields, **other})


def steady(count: int = 60, **other: Any) -> list[RequestOutcome]:
    return [on_time(number, number / 10, **other) for number in range(count)]


def test_a_sound_load_has_no_findings() -> None:
    assert names(result(*steady())) == []
    assert names(result(*steady(), schedule=closed(3, requests=60))) == []
    assert names(result(on_time(0, 0.0))) == []


def test_errors_above_the_bound_are_found() -> None:
    outcomes = steady(57) + [on_time(n, n / 10, fault="status") for n in range(57, 60)]
    (finding,) = load_findings(result(*outcomes))
    assert finding.text == "3 of 60 requests failed (status); at most 1% may"
    assert names(result(*outcomes), max_error_rate=0.05) == []


def test_a_client_that_sends_late_is_found() -> None:
    late = [on_time(n, n / 10, asked=n / 10 + 0.03) for n in range(60)]
    (finding,) = load_findings(result(*late))
    assert "the client sent requests late: by 30.0 ms or more in 5% of cases" in finding.text
    lags = array("d", [0.03] * 60)
    assert names(result(*steady(), schedule=closed(3, requests=60), lags=lags)) == ["client_slip"]
    assert names(result(*steady(), lags=array("d", [0.001] * 60))) == []


def test_a_client_near_its_limit_is_found() -> None:
    (finding,) = load_findings(result(*steady(), busy=0.81))
    assert "the client used 81% of a core" in finding.text
    assert "llm.client_processes" in finding.text
    assert names(result(*steady(), busy=0.6)) == []


def test_a_rate_below_the_one_asked_for_is_found() -> None:
    slower = [on_time(n, n / 10, asked=n / 10 * 1.05, sent=n / 10 * 1.05) for n in range(60)]
    slower = [on_time(request.number, request.due, asked=request.asked) for request in slower]
    assert "rate_not_reached" in names(result(*slower))


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"tokens": 3}, "60 of 60 answers do not have the requested length, for example 3"),
        ({"tokens": None}, "did not count the tokens of 60 of 60 answers"),
    ],
)
def test_lengths_other_than_asked_for_are_found(other: dict[str, Any], text: str) -> None:
    (finding,) = load_findings(result(*steady(**other)))
    assert text in finding.text
    assert names(result(*steady(**other)), exact_lengths=[False]) == []
    assert names(result(*steady(**other, tokens_asked=None))) == []


def test_only_requests_that_may_end_early_have_other_lengths() -> None:
    """Every second request of the test may end early, and every second answer did."""
    early = [replace(request, tokens=3) if request.number % 2 else request for request in steady()]
    assert names(result(*early), exact_lengths=[True, False]) == []
    (finding,) = load_findings(result(*early), exact_lengths=[False, True])
    assert "30 of 30 answers do not have the requested length" in finding.text
    own = ServerRequest("own")
    schedule = replace(constant(1, requests=60), traced=(own,) * 60)
    assert names(result(*early, schedule=schedule), exact_lengths=[False, True]) == []


def side(before: int | None, after: int | None) -> ServerSide | None:
    readings = (ServerCounters("vLLM", generated_tokens=count) for count in (before, after))
    return ServerSide.of(next(readings), (), next(readings))


def test_a_server_whose_counts_fall_was_restarted_and_stays_another() -> None:
    generated: dict[str, float] = {}

    def finding(a: tuple[int | None, int | None], b: tuple[int | None, int | None]) -> str:
        servers = {"http://a": side(*a), "http://b": side(*b)}
        return str(restart_finding(servers, generated) or "")

    assert finding((100, 200), (1000, 2000)) == ""
    # Counters that could not be read say nothing.
    assert finding((220, 300), (None, None)) == ""
    assert finding((300, None), (2000, 2100)) == ""
    assert finding((300, 400), (90, 190)).startswith("the counters of http://b fell: it was resta")
    assert "http://b fell" in finding((400, 500), (190, 290))
    assert restart_finding({"http://a": None}, {}) is None
    assert "http://a fell" in str(restart_finding({"http://a": side(50, 20)}, {}))


def served(rate: float, service: float, slots: int, seconds: float, seed: int) -> LoadResult:
    """Return a load of random arrivals that this many slots serve in order."""
    schedule = poisson(rate, seed=seed, duration=seconds)
    draw = random.Random(seed)
    free = [0.0] * slots
    outcomes = []
    for number, due in enumerate(schedule.due):
        slot = free.index(min(free))
        free[slot] = max(free[slot], due) + draw.uniform(0.5, 1.5) * service
        outcomes.append(on_time(number, due, free[slot] - due))
    return result(*outcomes, schedule=schedule)


def test_a_queue_that_grows_without_end_is_found_and_a_busy_one_is_not() -> None:
    for seed in range(20):
        # 1.3 times the server's capacity, and four fifths of it.
        assert names(served(13, 0.4, 4, 60, seed)) == ["over_saturated"]
        assert names(served(8, 0.4, 4, 60, seed)) == []
    # One stop, after which the server catches up.
    outcomes = [on_time(n, n / 50, 2.4 - n / 50 if 20 <= n < 120 else 0.4) for n in range(400)]
    assert names(result(*outcomes, schedule=constant(50, requests=400))) == []
