from __future__ import annotations

import os
import time
from typing import Any

import psutil
import pytest

from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.rounds import SPARE_ROUNDS

UNFIT = FitnessFinding("busy_cores", "invalid", "process 1 (cc) used 2.0 of 2 cores")
WARNED = FitnessFinding("busy_cores", "warn", "process 1 (cc) used 0.2 of 2 cores")

# Answers the prompt "void" with fewer tokens than recorded; crashes or raises when asked to.
MOODY = """
    import ctypes, os
    asked = 0
    def answer(prompt):
        global asked
        asked += 1
        if prompt == "crash":
            ctypes.string_at(0)
        if prompt == "refuse":
            raise ValueError("no")
        yield from ("a", "b", "c")
        if prompt != "void":
            yield "d"
"""


def test_every_test_is_replayed_in_every_process(stage: Any) -> None:
    workloads = {"one": stage.workload("x"), "two": stage.workload("y", "z")}

    measurement = stage.run(workloads)

    assert measurement.processes == len(set(stage.pids)) == 2
    for samples in measurement.tests.values():
        assert [sample.process for sample in samples.processes] == [0, 1]
        assert [len(sample.iterations) for sample in samples.processes] == [3, 3]
        assert samples.error is None
        assert not samples.voided


def test_warming_up_is_kept_apart_and_bounded(stage: Any) -> None:
    measurement = stage.run({"one": stage.workload("x")}, warmup_max=2)

    for sample in measurement.tests["one"].processes:
        assert len(sample.warmup) == 2


def test_values_come_by_process_and_iteration(stage: Any) -> None:
    samples = stage.run({"one": stage.workload("x")}).tests["one"]

    rows = samples.values("end_to_end")

    assert [len(row) for row in rows] == [3, 3]
    assert rows[0] == tuple(v["end_to_end"] for v in samples.processes[0].iterations)
    assert samples.values("prefill_tokens_per_sec") == ()


def test_an_iteration_replays_every_request_of_the_workload(stage: Any) -> None:
    source = """
        import os, pathlib
        log = pathlib.Path(__file__).with_name("log")
        def answer(prompt):
            with log.open("a") as file:
                file.write(prompt)
            yield from "abcd"
    """

    stage.run({"one": stage.workload("x", "y", "z")}, source, processes=1, iterations=1)

    assert (stage._folder / "log").read_text() == "xyz" * 3


def test_the_order_is_random_and_its_seed_repeats_it(stage: Any) -> None:
    workloads = {name: stage.workload(name) for name in "abcdef"}

    def order(seed: int) -> list[str]:
        stage.steps.clear()
        assert stage.run(workloads, seed=seed, iterations=1, warmup_max=1).seed == seed
        return list(dict.fromkeys(f"{step.process}{step.nodeid}" for step in stage.steps))

    first = order(1)

    assert order(1) == first
    assert order(2) != first
    rounds = [[name[1] for name in first if name[0] == process] for process in "12"]
    assert rounds[0] != rounds[1]
    assert sorted(rounds[0]) == sorted(rounds[1]) == list("abcdef")


def test_progress_is_told_before_each_replay(stage: Any) -> None:
    stage.run({"one": stage.workload("x")}, processes=1)

    assert [(step.process, step.processes, step.iteration) for step in stage.steps] == [
        (1, 1, None),
        (1, 1, None),
        (1, 1, 1),
        (1, 1, 2),
        (1, 1, 3),
    ]


def test_a_sample_of_an_unfit_machine_is_replaced_by_a_spare_process(stage: Any) -> None:
    stage.findings = [[UNFIT], []]

    samples = stage.run({"one": stage.workload("x")}).tests["one"]

    assert [sample.process for sample in samples.processes] == [1, 2]
    (void,) = samples.voided
    assert (void.process, void.void) == (0, f"{UNFIT.text} (busy_cores)")


def test_only_so_many_void_rounds_are_replaced(stage: Any) -> None:
    stage.findings = [[UNFIT]] * 99

    measurement = stage.run({"one": stage.workload("x")})

    samples = measurement.tests["one"]
    assert samples.given_up
    assert samples.processes == []
    assert measurement.processes == len(samples.voided) == SPARE_ROUNDS + 1


def test_what_was_measured_earns_a_test_more_spare_rounds(stage: Any) -> None:
    stage.findings = [[], [UNFIT], [UNFIT], [], [UNFIT], []]

    samples = stage.run({"one": stage.workload("x")}, processes=3, most=3).tests["one"]

    assert not samples.given_up
    assert [sample.process for sample in samples.processes] == [0, 3, 5]


def test_a_warning_is_kept_with_a_sample_that_counts(stage: Any) -> None:
    stage.findings = [[WARNED]]

    samples = stage.run({"one": stage.workload("x")}, processes=1).tests["one"]

    assert [sample.findings for sample in samples.processes] == [(WARNED,)]


def test_a_spare_process_serves_only_the_tests_that_need_it(stage: Any) -> None:
    workloads = {"void": stage.workload("void"), "good": stage.workload("x")}

    measurement = stage.run(workloads, MOODY)

    assert len(measurement.tests["good"].processes) == 2
    assert len(measurement.tests["void"].voided) == SPARE_ROUNDS + 1
    assert {step.nodeid for step in stage.steps if step.process > 2} == {"void"}


def test_a_replay_that_did_less_is_void_at_once(stage: Any) -> None:
    samples = stage.run({"one": stage.workload("void")}, MOODY).tests["one"]

    assert {sample.void for sample in samples.voided} == {
        "generation cut short: 3 of 4 output tokens (cut_short)"
    }
    assert {len(sample.warmup) for sample in samples.voided} == {1}
    assert {sample.iterations for sample in samples.voided} == {()}


@pytest.mark.parametrize(
    ("prompt", "message"), [("crash", "ended by SIGSEGV"), ("refuse", "raised ValueError: no")]
)
def test_a_test_that_fails_its_replay_has_an_error_and_the_others_survive(
    stage: Any, prompt: str, message: str
) -> None:
    workloads = {name: stage.workload(name) for name in ("a", "b", prompt, "c")}

    measurement = stage.run(workloads, MOODY)

    assert message in measurement.tests[prompt].error
    for name in "abc":
        assert len(measurement.tests[name].processes) == 2
        assert measurement.tests[name].error is None


def test_an_engine_that_does_not_load_is_an_error_of_every_test(stage: Any) -> None:
    workloads = {"one": stage.workload("x"), "two": stage.workload("y")}

    measurement = stage.run(workloads, "1 / 0")

    assert all("ZeroDivisionError" in samples.error for samples in measurement.tests.values())


def test_a_request_without_a_token_can_not_be_measured(stage: Any) -> None:
    workloads = {"silent": stage.workload("x", tokens=0), "good": stage.workload("x")}

    measurement = stage.run(workloads)

    assert measurement.tests["silent"].error.startswith("request 1 of 1 produced no tokens")
    assert len(measurement.tests["good"].processes) == 2


def test_time_inside_generation_is_counted_warming_up_included(stage: Any) -> None:
    measurement = stage.run({"one": stage.workload("x")})

    counted = sum(
        values["end_to_end"]
        for sample in measurement.tests["one"].processes
        for values in (*sample.warmup, *sample.iterations)
    )
    assert measurement.generating_seconds == pytest.approx(counted)
    assert measurement.generating_seconds < measurement.seconds


def test_processes_end_with_their_round(stage: Any) -> None:
    stage.run({"one": stage.workload("x")})

    assert len(stage.pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in stage.pids)
    assert os.getpid() not in stage.pids


def test_the_machine_is_looked_at_after_every_replay(stage: Any) -> None:
    stage.run({"one": stage.workload("x")}, processes=1, iterations=3)

    assert stage.looks == len(stage.steps)


def test_a_process_that_is_clearly_lost_is_not_replayed_to_its_end(stage: Any) -> None:
    stage.lost = FitnessFinding("busy_cores", "invalid", "others held the cores")
    samples = stage.run({"one": stage.workload("x")}, processes=1).tests["one"]

    assert samples.given_up
    assert {sample.void for sample in samples.voided} == {"others held the cores (busy_cores)"}
    assert len(stage.steps) == len(samples.voided)


def test_raw_times_of_the_counted_iterations_are_kept(stage: Any) -> None:
    workloads = {"one": stage.workload("x", "y")}

    (sample,) = stage.run(workloads, processes=1, iterations=3).tests["one"].processes

    # Two requests of four tokens each.
    assert len(sample.pooled["inter_token"]) == 3 * 2 * 3
    assert len(sample.pooled["first_token"]) == 3 * 2
    together = sum(sample.pooled["inter_token"]) + sum(sample.pooled["first_token"])
    assert together == pytest.approx(sum(values["end_to_end"] for values in sample.iterations))


def test_one_arm_is_the_candidate_and_has_no_pairs(stage: Any) -> None:
    samples = stage.run({"one": stage.workload("x")}).tests["one"]

    assert {(sample.side, sample.pair) for sample in samples.processes} == {("candidate", None)}
    assert {(step.side, step.pair) for step in stage.steps} == {("candidate", None)}
    assert samples.pairs == 0


def test_what_is_measured_beside_an_iteration_is_its_own(stage: Any) -> None:
    measurement = stage.run({"two": stage.workload("y", "z")})

    assert measurement.tests["two"].values("gpu_memory") == ((2.0, 2.0, 2.0),) * 2
    assert stage.watched == stage.pids


def test_what_is_measured_beside_a_whole_process_is_one_value_of_it(stage: Any) -> None:
    measurement = stage.run({"one": stage.workload("x")})

    assert measurement.tests["one"].values("energy_per_token") == ((3.0,),) * 2


def test_waiting_before_a_process_is_no_part_of_the_budget(stage: Any) -> None:
    waits = [4.0]

    def before(turns: object) -> float:
        seconds = waits.pop() if waits else 0.0
        time.sleep(seconds)
        return seconds

    stage.before = before
    measurement = stage.run({"one": stage.workload("x")}, budget=3.9)
    assert not measurement.tests["one"].budget_reached
    assert (measurement.processes, measurement.waited) == (2, 4.0)
    assert measurement.seconds > 4.0


def test_what_each_arm_loaded_is_kept(stage: Any) -> None:
    measurement = stage.run({"one": stage.workload("x")}, MOODY, base=MOODY)
    loaded = measurement.tests["one"].loaded
    assert {role: info.engine for role, info in loaded.items()} == {
        "candidate": "app",
        "base": "app",
    }
