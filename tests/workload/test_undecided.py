"""A test is replayed for as long as it is undecided, within its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_llmperf.measure.rounds import OpenTest
from pytest_llmperf.measure.samples import TestSamples

#: Short rounds: only which tests are in them matters here.
SHORT: dict[str, Any] = {"iterations": 1, "warmup_max": 1}
METRICS = OpenTest(["end_to_end"])


def both(stage: Any) -> dict[str, Any]:
    return {"one": stage.workload("x"), "two": stage.workload("y")}


def everything(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
    return dict.fromkeys(tests, METRICS)


def counts(tests: Mapping[str, TestSamples]) -> dict[str, int]:
    return {nodeid: len(samples.processes) for nodeid, samples in tests.items()}


def test_only_undecided_tests_go_on(stage: Any) -> None:
    def undecided(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
        return {"two": METRICS} if len(tests["two"].processes) < 4 else {}

    measurement = stage.run(both(stage), undecided=undecided, processes=2, most=9, **SHORT)

    assert counts(measurement.tests) == {"one": 2, "two": 4}
    assert not any(samples.budget_reached for samples in measurement.tests.values())


def test_the_time_that_is_left_shrinks_and_ends_with_the_budget(stage: Any) -> None:
    def undecided(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
        seconds = 10_000.0 if len(tests["one"].processes) < 2 else 100.0
        return {"one": OpenTest(["end_to_end"], seconds=seconds)}

    stage.run(
        {"one": stage.workload("x")}, undecided=undecided, processes=1, most=3, **SHORT, budget=600
    )

    left = [step.left for step in stage.steps]
    first = left.index(next(seconds for seconds in left if seconds is not None))
    assert left[:first] == [None] * first
    cut = [seconds for seconds in left[first:] if seconds > 100]
    shrinking = left[first + len(cut) :]
    assert cut
    assert max(cut) < 600
    assert len(shrinking) > 1
    assert 100 > shrinking[0] > shrinking[-1] > 0


def test_it_is_asked_once_a_round_with_everything(stage: Any) -> None:
    asked = []

    def undecided(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
        asked.append(counts(tests))
        return {"one": METRICS} if len(asked) == 1 else {}

    stage.run(both(stage), undecided=undecided, processes=2, most=9, **SHORT)

    assert asked == [{"one": 2, "two": 2}, {"one": 3, "two": 2}]


def test_nobody_to_ask_means_the_fewest_processes(stage: Any) -> None:
    measurement = stage.run(both(stage), processes=1, most=9, **SHORT)

    assert counts(measurement.tests) == {"one": 1, "two": 1}


@pytest.mark.parametrize("base", [None, "def answer(prompt):\n    yield from 'abcd'"])
def test_an_undecided_test_ends_at_the_most(stage: Any, base: str | None) -> None:
    samples = stage.run(
        {"one": stage.workload("x")}, base=base, undecided=everything, processes=1, most=3, **SHORT
    ).tests["one"]

    assert (len(samples.processes), samples.pairs) == ((3, 0) if base is None else (6, 3))
    assert not samples.budget_reached


def test_void_samples_are_no_samples_to_decide_on(stage: Any) -> None:
    from pytest_llmperf.machine.fitness import FitnessFinding

    stage.findings = [[FitnessFinding("swapping", "invalid", "memory is short")], []]
    asked = []

    stage.run(
        {"one": stage.workload("x")},
        undecided=lambda tests: asked.append(counts(tests)) or {},
        processes=2,
        most=9,
        **SHORT,
    )

    assert asked == [{"one": 2}]


def test_when_the_budget_ends_what_was_measured_is_kept(stage: Any) -> None:
    samples = stage.run({"one": stage.workload("x")}, budget=0.0).tests["one"]

    assert samples.budget_reached
    assert samples.processes == []
    assert stage.pids == []


def test_a_budget_cuts_undecided_tests_short_and_no_others(stage: Any) -> None:
    def undecided(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
        # Spends all the time that is left.
        stage.rounds._began -= 1000.0
        return {"two": METRICS}

    tests = stage.run(both(stage), undecided=undecided, processes=1, most=9, **SHORT).tests

    assert counts(tests) == {"one": 1, "two": 1}
    assert {nodeid for nodeid, samples in tests.items() if samples.budget_reached} == {"two"}


def test_a_test_has_a_budget_of_its_own(stage: Any) -> None:
    measurement = stage.run(
        both(stage), undecided=everything, processes=1, most=3, test_budgets={"one": 0.0}, **SHORT
    )

    assert counts(measurement.tests) == {"one": 1, "two": 3}
    assert measurement.tests["one"].budget_reached
    assert not measurement.tests["two"].budget_reached


def test_time_spent_on_a_test_is_counted_warming_up_included(stage: Any) -> None:
    source = """
        import time
        def answer(prompt):
            time.sleep(0.05 if prompt == "y" else 0.0)
            yield from "abcd"
    """

    measurement = stage.run(both(stage), source, processes=1, **SHORT)

    spent = measurement.tests["two"].seconds
    assert 0.1 <= spent <= measurement.seconds - measurement.tests["one"].seconds
