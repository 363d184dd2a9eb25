"""The processes of a pair take turns by iterations where both fit side by side."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from pytest_llmperf.machine.fitness import FitnessFinding

ECHO = """
    def answer(prompt):
        yield from "abcd"
"""
#: An application that fails while another process of it is alive.
ALONE = """
    import atexit, os, pathlib
    mine = pathlib.Path(__file__).with_name("the_only_one")
    mine.touch(exist_ok=False)
    atexit.register(mine.unlink)
    def answer(prompt):
        yield from "abcd"
"""
#: A single warm-up, so that the counted iterations stand out.
WARM: dict[str, Any] = {"iterations": 4, "warmup_max": 1}
#: The orders of turns in which replays as short as these are repeated, 25 times.
IN_TURNS = ("ABBA" * 12 + "AB", "BAAB" * 12 + "BA")


@pytest.fixture
def stage(stage: Any) -> Any:
    stage.turns = lambda client: "iterations"
    return stage


def turns(stage: Any, pair: int) -> str:
    """Return the sides of a pair's counted iterations: A for the candidate, B for the base."""
    return "".join(
        "A" if step.side == "candidate" else "B"
        for step in stage.steps
        if step.pair == pair and step.iteration is not None
    )


def took_turns(samples: Any) -> tuple[bool, ...]:
    """Return for each complete pair whether its processes took turns."""
    kinds: dict[int, list[bool]] = {}
    for sample in samples.processes:
        kinds.setdefault(sample.pair, []).append(sample.in_iteration_turns)
    return tuple(all(both) for _, both in sorted(kinds.items()) if len(both) == 2)


def test_the_first_pair_runs_one_after_the_other_and_the_next_side_by_side(stage: Any) -> None:
    measurement = stage.run({"one": stage.workload("x")}, base=ECHO, most=3, processes=3, **WARM)

    assert turns(stage, 1) in ("AAAABBBB", "BBBBAAAA")
    assert turns(stage, 2) in IN_TURNS
    last = stage.steps[-1]
    assert (last.iteration, last.iterations) == (25, 25)
    samples = measurement.tests["one"]
    assert took_turns(samples) == (False, True, True)
    assert [len(sample.iterations) for sample in samples.processes] == [4, 4, *[25] * 4]
    assert measurement.processes == len(set(stage.pids)) == 6
    assert not any(psutil.pid_exists(pid) for pid in stage.pids)


def test_replays_as_long_as_a_start_are_not_repeated(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_llmperf.measure.turns._MIN_SECONDS", 0.0)
    slow = """
        import time
        def answer(prompt):
            for letter in "abcd":
                time.sleep(0.03)
                yield letter
    """
    workloads = {"one": stage.workload("x")}
    samples = stage.run(workloads, slow, base=slow, start_seconds=0.1, **WARM).tests["one"]

    assert turns(stage, 2) in ("ABBAABBA", "BAABBAAB")
    assert {len(sample.iterations) for sample in samples.processes} == {4}


def test_tests_that_count_their_iterations_have_as_many_as_planned(stage: Any) -> None:
    workloads = {"one": stage.workload("x")}
    stage.run(workloads, base=ECHO, without_repeats=frozenset({"one"}), **WARM)

    assert turns(stage, 2) in ("ABBAABBA", "BAABBAAB")


def test_who_begins_is_random_still(stage: Any) -> None:
    stage.run({"one": stage.workload("x")}, base=ECHO, most=12, processes=12, **WARM)

    first = "".join(turns(stage, pair)[0] for pair in range(1, 13))
    assert {first[at : at + 2] for at in range(0, 12, 2)} == {"AB", "BA"}


def test_both_processes_live_while_one_of_them_works(stage: Any) -> None:
    seen: list[tuple[int, int]] = []
    stage.steps = StepsNotingProcesses(stage, seen)
    stage.run({"one": stage.workload("x")}, base=ECHO, **WARM)

    assert set(seen) == {(1, 1), (2, 2)}


class StepsNotingProcesses(list):  # type: ignore[type-arg]
    """Steps that note, for each step, the pair and how many processes are alive."""

    def __init__(self, stage: Any, seen: list[tuple[int, int]]) -> None:
        super().__init__()
        self._stage, self._seen = stage, seen

    def append(self, step: Any) -> None:
        alive = sum(map(psutil.pid_exists, self._stage.pids))
        self._seen.append((step.pair, alive))
        super().append(step)


@pytest.mark.parametrize("unlucky", ["candidate", "base"])
def test_where_either_has_no_room_they_follow_one_another(stage: Any, unlucky: str) -> None:
    def turns_of(client: Any) -> str | None:
        return None if stage.roles[stage.pids.index(client.pid)] == unlucky else "iterations"

    stage.turns = turns_of

    samples = stage.run({"one": stage.workload("x")}, base=ECHO, **WARM).tests["one"]

    assert turns(stage, 2) in ("AAAABBBB", "BBBBAAAA")
    assert took_turns(samples) == (False, False)


def test_every_test_of_a_round_takes_turns_in_the_same_two_processes(stage: Any) -> None:
    workloads = {"one": stage.workload("x"), "two": stage.workload("y")}

    measurement = stage.run(workloads, base=ECHO, **WARM)

    assert measurement.processes == 4
    assert turns(stage, 2) in [both * 2 for both in IN_TURNS]
    assert [samples.pairs for samples in measurement.tests.values()] == [2, 2]


def test_a_test_that_one_arm_has_is_replayed_in_its_process_alone(stage: Any) -> None:
    workloads = {"one": stage.workload("x"), "mine": stage.workload("y")}
    side = stage._side

    def without(role: str, name: str, source: str) -> Any:
        made = side(role, name, source)
        if role == "base":
            made.own_workloads["mine"] = None
        return made

    stage._side = without
    tests = stage.run(workloads, base=ECHO, **WARM).tests

    assert [(s.side, s.in_iteration_turns) for s in tests["mine"].processes] == [
        ("candidate", False)
    ] * 2
    assert took_turns(tests["one"]) == (False, True)


def test_what_fails_side_by_side_is_tried_one_after_the_other(stage: Any) -> None:
    workloads = {"one": stage.workload("x"), "two": stage.workload("y")}
    starts: list[float] = []

    def before(turns: object) -> float:
        starts.append(0.0)
        return 0.0

    stage.before = before
    measurement = stage.run(workloads, ALONE, base=ALONE, processes=3, most=3, **WARM)

    for samples in measurement.tests.values():
        assert samples.error is None
        assert took_turns(samples) == (False, False, False)
        assert samples.voided == []
    # Tried once, not for every test: besides three pairs, two starts of which one failed.
    assert len(starts) == 3 * 2 + 2
    assert measurement.processes == 3 * 2 + 1
    assert "FileExistsError" in measurement.why_not_side_by_side


def test_what_fails_alone_too_is_the_error_of_its_arm(stage: Any) -> None:
    base = """
    import pathlib
    log = pathlib.Path(__file__).with_name("log")
    def answer(prompt):
        with log.open("a") as file:
            file.write("x")
        if len(log.read_text()) > 5:
            raise ValueError("worn out")
        yield from "abcd"
    """
    measurement = stage.run({"one": stage.workload("x")}, base=base, **WARM)

    samples = measurement.tests["one"]
    assert samples.error.startswith("base (other.yaml): ")
    assert "worn out" in samples.error
    assert measurement.why_not_side_by_side.startswith("base (other.yaml): ")
    assert [step.side for step in stage.steps if step.pair == 3][-1] == "base"


BUSY = """
    import threading
    def spin():
        while True:
            pass
    threading.Thread(target=spin, daemon=True).start()
    def answer(prompt):
        import time
        time.sleep(0.1)
        yield from "abcd"
"""


def test_an_engine_that_does_not_wait_for_its_turn_runs_alone(stage: Any) -> None:
    measurement = stage.run({"one": stage.workload("x")}, BUSY, base=BUSY, **WARM)

    samples = measurement.tests["one"]
    assert samples.error is None
    assert took_turns(samples) == (False, False)
    assert "cores busy during the other process's turn" in measurement.why_not_side_by_side


@pytest.mark.parametrize("half", [2, 3])
@pytest.mark.parametrize(
    ("finding", "apart"),
    [
        (FitnessFinding("swapping", "invalid", "memory is short"), True),
        (FitnessFinding("busy_cores", "invalid", "process 1 (cc) used 2.0 of 2 cores"), False),
    ],
)
def test_a_void_half_takes_the_pair_with_it_and_another_replaces_it(
    stage: Any, half: int, finding: FitnessFinding, apart: bool
) -> None:
    stage.findings = [[]] * half + [[finding]]

    measurement = stage.run({"one": stage.workload("x")}, base=ECHO, **WARM)

    samples = measurement.tests["one"]
    assert (samples.pairs, samples.void_pairs) == (2, 1)
    assert [sample.pair for sample in samples.voided] == [1]
    # Without the second process, memory may suffice.
    assert took_turns(samples) == (False, not apart)
    assert measurement.why_not_side_by_side == ("memory is short" if apart else "")


def test_what_was_cut_off_by_a_void_half_is_no_sample(stage: Any) -> None:
    stage.steps = StepsLosingAProcess(stage, at_pair=2)

    samples = stage.run({"one": stage.workload("x")}, base=ECHO, **WARM).tests["one"]

    assert samples.void_pairs == 1
    assert {len(sample.iterations) for sample in samples.processes} == {4, 25}


class StepsLosingAProcess(list):  # type: ignore[type-arg]
    """Steps that report a process as lost after its first iteration in pair ``at_pair``."""

    def __init__(self, stage: Any, at_pair: int) -> None:
        super().__init__()
        self._stage, self._pair = stage, at_pair

    def append(self, step: Any) -> None:
        super().append(step)
        first = step.pair == self._pair and step.iteration == 1
        self._stage.lost = FitnessFinding("gpu_lost", "invalid", "it is gone") if first else None


@pytest.mark.parametrize("at", [1, 4, 8])
def test_an_interruption_leaves_neither_process(stage: Any, at: int) -> None:
    class Interrupting(list):  # type: ignore[type-arg]
        def append(self, step: Any) -> None:
            super().append(step)
            if sum(taken.pair == 2 for taken in self) == at:
                raise KeyboardInterrupt

    stage.steps = Interrupting()

    with pytest.raises(KeyboardInterrupt):
        stage.run({"one": stage.workload("x")}, base=ECHO, **WARM)

    assert len(stage.pids) == 4
    assert not any(psutil.pid_exists(pid) for pid in stage.pids)
