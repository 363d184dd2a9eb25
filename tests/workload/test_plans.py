from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.gate.check import Check
from pytest_llmperf.measure.workload import Workload
from pytest_llmperf.metrics import get_metric
from pytest_llmperf.session.measuring import make_plan
from pytest_llmperf.session.recorded import RecordedTest


def test_a_plan_says_what_it_will_cost(stage: Any) -> None:
    workloads = {"one": stage.workload("x"), "two": stage.workload("y")}
    plan = stage.plan(workloads, recorded_seconds={"one": 1.0, "two": 2.0}, start_seconds=0.5)

    assert plan.describe() == ("2 tests, at least 2 processes each, 31 s to 10 min")


def test_a_comparison_costs_twice_as_much(stage: Any) -> None:
    workloads = {"one": stage.workload("x"), "two": stage.workload("y")}
    seconds = {"one": 1.0, "two": 2.0}
    plan = stage.plan(workloads, recorded_seconds=seconds, start_seconds=0.5, paired=True)

    assert plan.expected_seconds == 62.0
    assert plan.describe().startswith("2 tests, at least 2 pairs of processes each, 1 min 2 s to")


def test_pairs_cost_their_turns(stage: Any) -> None:
    workloads = {name: stage.workload("x") for name in ("long", "short", "uncut")}
    seconds = {"long": 1.0, "short": 0.1, "uncut": 0.1}

    def expected(**changes: Any) -> float:
        plan = stage.plan(workloads, recorded_seconds=seconds, start_seconds=0.5, **changes)
        return round(plan.expected_seconds, 3)

    # Per side: a start, then two warm-ups and three iterations of each test.
    alone = 0.5 + 5 * 1.2
    # Two warm-ups and an iteration, then turns with pauses: three long replays, 2 s of short ones.
    # The uncut test has two warm-ups and three whole iterations.
    beside = 0.5 + 3 * 1.1 + 3 * (1.0 + 20 * 0.01) + 20 * (0.1 + 2 * 0.01) + 5 * 0.1
    uncut = frozenset({"uncut"})
    tokens: dict[str, Any] = {
        "turns": "tokens",
        "whole_iterations_only": uncut,
        "without_repeats": uncut,
    }
    assert expected(paired=True, **tokens) == round(2 * (alone + beside), 3)
    assert expected(paired=True, processes=4, most=4, **tokens) == round(
        2 * (alone + 3 * beside), 3
    )
    for turns in (None, "iterations"):
        planned = expected(paired=True, turns=turns, without_repeats=frozenset(workloads))
        assert planned == round(4 * alone, 3)
    assert expected() == round(2 * alone, 3)
    # Tests with other engine settings need more processes per side.
    assert expected(paired=True, processes_per_round=3, **tokens) == round(
        2 * (alone + beside + 4 * 0.5), 3
    )


def test_short_replays_are_repeated_for_a_tests_share_of_a_start(stage: Any) -> None:
    workloads = {name: stage.workload("x") for name in ("one", "counted", "hurried")}

    def replays(nodeid: str, seconds: float, **changes: Any) -> int:
        plan = stage.plan(
            workloads,
            start_seconds=6.0,
            without_repeats=frozenset({"counted"}),
            test_budgets={"hurried": 20.0},
            **changes,
        )
        return int(plan.iterations_of(nodeid, "iterations", seconds))

    # Three tests share the six seconds of a start, or twelve with two processes per side.
    assert (replays("one", 0.25), replays("one", 0.25, processes_per_round=2)) == (8, 16)
    assert (replays("one", 1.5), replays("one", 0.001)) == (3, 25)
    assert replays("counted", 0.25) == 3
    # A pair takes no more than a tenth of the test's own budget: 1 s per side.
    assert replays("hurried", 0.25) == 4
    # If many more pairs are expected, the start counts as a slow one.
    quick = stage.plan(workloads, start_seconds=0.3)
    assert quick.wanted_turns("one", "tokens", longest=True) == 6.0
    # Starts and repeats also take at most a tenth of a test's share of the session's budget.
    assert (replays("one", 0.25, budget=180.0), replays("one", 0.25, budget=150.0)) == (4, 3)
    # The announced time includes the repeats.
    seconds = dict.fromkeys(workloads, 0.25)
    plan = stage.plan(workloads, recorded_seconds=seconds, start_seconds=6.0, paired=True)
    turns = dataclasses.replace(plan, turns="iterations")
    assert turns.expected_seconds - plan.expected_seconds == 2 * 3 * (8 - 3) * 0.25


@pytest.mark.parametrize(
    ("paired", "text"), [(False, "at least 1 process each"), (True, "at least 1 pair of processes")]
)
def test_one_of_a_kind_is_named_so(stage: Any, paired: bool, text: str) -> None:
    plan = stage.plan({"one": stage.workload("x")}, processes=1, paired=paired)

    assert plan.describe().startswith(f"1 test, {text}")


def test_a_plan_beyond_the_budget_says_what_will_be_missing(stage: Any) -> None:
    plan = stage.plan({"one": stage.workload("x")}, recorded_seconds={"one": 100.0}, budget=60.0)

    text = plan.describe()

    assert text.startswith(
        "1 test, at least 2 processes each, 16 min 40 s; over the budget of 1 min:"
    )
    assert text.endswith("are inconclusive (perf.budget)")


@pytest.mark.parametrize(("budget", "text"), [(150.0, "2 min 30 s"), (100.0, "1 min 40 s")])
def test_a_budget_is_named_as_long_as_it_is(stage: Any, budget: float, text: str) -> None:
    plan = stage.plan({"one": stage.workload("x")}, budget=budget)

    assert plan.describe().endswith(f" to {text}")


def test_plans_are_values(stage: Any) -> None:
    plan = stage.plan({})

    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.seed = 2


def test_what_counts_iterations_is_not_repeated() -> None:
    def test(name: str, *, gated: bool = True) -> RecordedTest:
        check = Check(get_metric(name), None, 0.05, gated=gated)
        return RecordedTest(f"{name} {gated}", Workload(()), 0.1, (check,))

    tests = [
        test("stall_rate"),
        test("stall_rate", gated=False),
        test("inter_token_p95"),
        test("tokens_per_sec"),
    ]
    plan = make_plan(tests, PerfConfig(), 0.1, paired=True)
    assert plan.without_repeats == {"stall_rate True", "inter_token_p95 True"}
    assert plan.whole_iterations_only == {"inter_token_p95 True"}
