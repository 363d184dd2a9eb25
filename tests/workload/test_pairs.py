"""Two sides are measured in pairs of fresh processes that take turns."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import psutil
import pytest

from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.rounds import SPARE_ROUNDS

UNFIT = FitnessFinding("swapping", "invalid", "memory is short")

ECHO = """
    def answer(prompt):
        yield from "abcd"
"""
#: Short pairs: only how they are made up matters here.
SHORT: dict[str, Any] = {"iterations": 1, "warmup_max": 1}


def blocks(stage: Any, pairs: int, seed: int) -> list[str]:
    """Return the order of sides as a word of four letters per block of two pairs."""
    stage.roles.clear()
    stage.run(
        {"one": stage.workload("x")}, base=ECHO, processes=pairs, most=pairs, seed=seed, **SHORT
    )
    letters = "".join("A" if role == "candidate" else "B" for role in stage.roles)
    return [letters[at : at + 4] for at in range(0, len(letters), 4)]


def test_arms_take_turns_in_blocks_that_cancel_drift(stage: Any) -> None:
    assert set(blocks(stage, 8, seed=3)) == {"ABBA", "BAAB"}


def test_the_order_of_arms_is_random_and_its_seed_repeats_it(stage: Any) -> None:
    first = blocks(stage, 6, seed=1)

    assert blocks(stage, 6, seed=1) == first
    assert any(blocks(stage, 6, seed=seed) != first for seed in (2, 3, 4))


def test_every_process_of_a_pair_is_fresh_and_ends_with_it(stage: Any) -> None:
    measurement = stage.run({"one": stage.workload("x")}, base=ECHO, **SHORT)

    assert measurement.processes == len(set(stage.pids)) == 4
    assert not any(psutil.pid_exists(pid) for pid in stage.pids)


def test_both_arms_of_a_pair_meet_the_tests_in_the_same_order(stage: Any) -> None:
    workloads = {name: stage.workload(name) for name in "abcdef"}

    stage.run(workloads, base=ECHO, **SHORT)

    orders = {
        key: list(dict.fromkeys(step.nodeid for step in steps))
        for key, steps in groupby(stage.steps, key=lambda step: (step.pair, step.side))
    }
    assert set(orders) == {(pair, side) for pair in (1, 2) for side in ("candidate", "base")}
    assert orders[1, "candidate"] == orders[1, "base"]
    assert orders[2, "candidate"] == orders[2, "base"]
    assert orders[1, "base"] != orders[2, "base"]
    assert sorted(orders[1, "base"]) == list("abcdef")


def test_progress_counts_pairs_and_processes(stage: Any) -> None:
    stage.run({"one": stage.workload("x")}, base=ECHO, **SHORT)

    told = [(step.process, step.processes, step.pair) for step in stage.steps]
    assert list(dict.fromkeys(told)) == [(1, 4, 1), (2, 4, 1), (3, 4, 2), (4, 4, 2)]


def test_values_of_one_arm_stand_beside_those_of_the_other(stage: Any) -> None:
    samples = stage.run({"one": stage.workload("x")}, base=ECHO, processes=3, most=3).tests["one"]

    candidate, base = samples.paired("end_to_end")
    by_place = {(sample.side, sample.pair): sample for sample in samples.processes}
    assert candidate == tuple(by_place["candidate", pair].row("end_to_end") for pair in range(3))
    assert base == tuple(by_place["base", pair].row("end_to_end") for pair in range(3))
    assert samples.values("end_to_end") == candidate
    assert samples.pairs == 3


@pytest.mark.parametrize("half", [0, 1])
def test_a_pair_with_a_void_process_is_replaced(stage: Any, half: int) -> None:
    stage.findings = [[]] * half + [[UNFIT]]

    samples = stage.run({"one": stage.workload("x")}, base=ECHO, **SHORT).tests["one"]

    assert (samples.pairs, samples.void_pairs) == (2, 1)
    assert [sample.pair for sample in samples.voided] == [0]
    assert len(samples.paired("end_to_end")[0]) == len(samples.paired("end_to_end")[1]) == 2


def test_the_other_half_of_a_void_pair_is_not_measured_in_vain(stage: Any) -> None:
    stage.findings = [[UNFIT]]

    measurement = stage.run({"one": stage.workload("x")}, base=ECHO, **SHORT)

    assert measurement.processes == 5
    assert len(measurement.tests["one"].processes) == 4


def test_only_so_many_void_pairs_are_replaced(stage: Any) -> None:
    stage.findings = [[UNFIT]] * 99

    samples = stage.run({"one": stage.workload("x")}, base=ECHO, **SHORT).tests["one"]

    assert samples.given_up
    assert samples.void_pairs == SPARE_ROUNDS + 1
    assert samples.pairs == 0


@pytest.mark.parametrize("base", ["raise RuntimeError('no')", "import os; os._exit(3)"])
def test_a_base_that_fails_is_named_in_the_error(stage: Any, base: str) -> None:
    failing = f"def answer(prompt):\n    if prompt == 'x': {base}\n    yield from 'abcd'"
    workloads = {"one": stage.workload("x"), "two": stage.workload("y")}

    tests = stage.run(workloads, base=failing, **SHORT).tests

    assert tests["one"].error.startswith("base (other.yaml): ")
    assert (tests["two"].error, tests["two"].pairs) == (None, 2)


def test_a_candidate_that_fails_is_named_in_the_error(stage: Any) -> None:
    samples = stage.run({"one": stage.workload("x")}, "1 / 0", base=ECHO, **SHORT).tests["one"]

    assert samples.error.startswith("candidate (config.yaml): llm.target")
    assert "ZeroDivisionError" in samples.error


def test_half_a_pair_is_no_sample_of_a_test_that_failed(stage: Any) -> None:
    base = "def answer(prompt):\n    raise ValueError('no')"

    samples = stage.run({"one": stage.workload("x")}, base=base, **SHORT).tests["one"]

    assert samples.processes == samples.voided == []


def test_a_base_that_does_other_work_is_an_error_and_not_void(stage: Any) -> None:
    base = "def answer(prompt):\n    yield from 'abc'"

    samples = stage.run({"one": stage.workload("x")}, base=base, **SHORT).tests["one"]

    assert samples.error == (
        "base (other.yaml): the base did not repeat the recorded work, so it can't be compared: "
        "generation cut short: 3 of 4 output tokens"
    )
    assert samples.voided == []


def test_a_candidate_that_does_less_is_void_as_ever(stage: Any) -> None:
    source = "def answer(prompt):\n    yield from 'abc'"

    samples = stage.run({"one": stage.workload("x")}, source, base=ECHO, **SHORT).tests["one"]

    assert samples.error is None
    assert {sample.void for sample in samples.voided} == {
        "generation cut short: 3 of 4 output tokens (cut_short)"
    }


def test_half_a_pair_is_dropped_when_the_budget_ends(stage: Any) -> None:
    measurement = stage.run(
        {"one": stage.workload("x")}, base=ECHO, test_budgets={"one": 0.0}, **SHORT
    )

    samples = measurement.tests["one"]
    assert measurement.processes == 1
    assert samples.budget_reached
    assert samples.processes == samples.voided == []
    assert samples.seconds > 0


@pytest.mark.parametrize(("paired", "at"), [(False, 2), (True, 1), (True, 4), (True, 7)])
def test_an_interruption_leaves_no_worker(stage: Any, paired: bool, at: int) -> None:
    class Interrupting(list):  # type: ignore[type-arg]
        def append(self, step: object) -> None:
            super().append(step)
            if len(self) == at:
                raise KeyboardInterrupt

    stage.steps = Interrupting()

    with pytest.raises(KeyboardInterrupt):
        stage.run({"one": stage.workload("x")}, base=ECHO if paired else None, **SHORT)

    assert len(stage.pids) == (at + 1) // 2
    assert not any(psutil.pid_exists(pid) for pid in stage.pids)


def test_an_interruption_while_an_engine_closes_leaves_no_worker(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_llmperf.engine.client import EngineClient

    def interrupted(self: EngineClient) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EngineClient, "close", interrupted)

    with pytest.raises(KeyboardInterrupt):
        stage.run({"one": stage.workload("x")}, base=ECHO, **SHORT)

    (pid,) = stage.pids
    assert not psutil.pid_exists(pid)
