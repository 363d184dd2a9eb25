"""The processes of a pair take turns within their generations."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.engine.info import EngineInfo
from pytest_llmperf.engine.load_report import GpuStatus, GpuUtilization
from pytest_llmperf.engine.request import build_request
from pytest_llmperf.machine.fitness import FitnessFinding
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import OpenTest
from pytest_llmperf.measure.samples import BASE, CANDIDATE, ProcessSample, TestSamples, TurnSamples
from pytest_llmperf.measure.side_by_side import fewer_layers
from pytest_llmperf.measure.turns import planned_replays, wanted_seconds
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.metrics import get_metric

#: Each token takes 25 ms, so that a turn is two tokens; both sides note theirs in one log.
LOGGED = """
    import pathlib, time
    log = pathlib.Path(__file__).with_name("log")
    def answer(prompt):
        for token in range({tokens}):
            time.sleep({seconds})
            with log.open("a") as file:
                file.write("{side}")
            yield "a"
"""


@pytest.fixture
def stage(stage: Any, exact_replays: None) -> Any:
    stage.turns = lambda client: "tokens"
    return stage


def logged(side: str, tokens: int = 9, seconds: float = 0.025) -> str:
    return LOGGED.format(side=side, tokens=tokens, seconds=seconds)


def measure(stage: Any, tokens: int = 9, seconds: float = 0.025, **changes: Any) -> Any:
    settings = {"processes": 2, "most": 3, "iterations": 2, "warmup_max": 1, **changes}
    return stage.run(
        {"one": stage.workload("x", tokens=tokens)},
        logged("A", tokens),
        base=logged("B", tokens, seconds),
        **settings,
    )


MIRROR = str.maketrans("AB", "BA")


def turns_taken(folder: Path, after: int) -> str:
    """Return the side of each token after the first ``after``; A is the side that begins."""
    text = (folder / "log").read_text()[after:]
    return text.translate(MIRROR) if text.startswith("B") else text


#: Tokens of the first pair: a warm-up and two iterations per side.
FIRST_PAIR = 2 * 3 * 9
#: Tokens that both sides generate before taking turns: a warm-up and an iteration each.
ALONE = 2 * 2 * 9
#: A replay by both sides: the first token, then two at a time.
WHOLE = "AB" + 4 * "AABB"


def test_neighbouring_turns_follow_each_other_within_a_generation(
    stage: Any, tmp_path: Path
) -> None:
    samples = measure(stage).tests["one"]

    assert turns_taken(tmp_path, 0).startswith("A" * 27 + "B" * 27)
    # Two replays that end with the first token follow each whole one; the sides begin in turn.
    mirrored = WHOLE.translate(MIRROR)
    expected = WHOLE + "BA" + "AB" + mirrored + "AB" + "BA"
    assert turns_taken(tmp_path, FIRST_PAIR + ALONE) == expected
    first, second = ([s for s in samples.processes if s.pair == pair] for pair in (0, 1))
    assert all(sample.turns is None and len(sample.iterations) == 2 for sample in first)
    for sample in second:
        assert len(sample.iterations) == 1
        assert sample.turns is not None
        assert sample.turns.steps == 8
        # Four turns of two steps in each whole replay.
        assert sample.turns.decode == pytest.approx([0.025] * 8, rel=0.5)
        assert sample.turns.first_tokens == pytest.approx([0.025] * 6, rel=0.5)
        # The other side's turns are in no value.
        assert sample.turns.values["end_to_end"] == pytest.approx([0.225] * 2, rel=0.5)
        assert sample.durations() == pytest.approx([0.225] * 3, rel=0.5)


def test_the_differences_are_those_of_the_neighbouring_turns(stage: Any) -> None:
    samples = measure(stage, seconds=0.02).tests["one"]

    for name in ("tokens_per_sec", "first_token", "end_to_end"):
        (difference,) = samples.differences(get_metric(name))
        assert 0.1 < difference < 0.35, name


@pytest.mark.parametrize(
    ("open_metrics", "replays"),
    [
        (["first_token"], 3 * ("AB" + "BA")),
        (["tokens_per_sec"], WHOLE + WHOLE.translate(MIRROR)),
    ],
)
def test_only_what_is_open_is_replayed(
    stage: Any, tmp_path: Path, open_metrics: list[str], replays: str
) -> None:
    """Where only the first token is undecided, replays end with it."""

    def undecided(tests: Any) -> dict[str, OpenTest]:
        return {"one": OpenTest(open_metrics)} if tests["one"].pairs < 2 else {}

    samples = measure(stage, processes=1, most=2, undecided=undecided).tests["one"]

    (candidate, _) = (sample for sample in samples.processes if sample.pair == 1)
    assert candidate.turns is not None
    assert turns_taken(tmp_path, FIRST_PAIR + ALONE) == replays
    assert candidate.turns.has("first_token")
    assert candidate.turns.has("tokens_per_sec") == (open_metrics != ["first_token"])
    prompts = candidate.turns.partial.get("prompt", ())
    assert len(prompts) == (6 if open_metrics == ["first_token"] else 0)
    assert prompts == pytest.approx([0.025] * len(prompts), rel=0.5)


def test_stalls_are_counted_in_replays_of_every_kind() -> None:
    row = {"end_to_end": 1.0}
    turns = TurnSamples(
        values={"end_to_end": (1.0, 1.3)},
        partial={"prompt": (0.2, 0.2, 0.24, 0.3), "decode": (0.8, 0.8, 2.0)},
    )
    candidate = ProcessSample(0, (row,), pair=0, turns=turns)
    base = ProcessSample(1, (row,), side=BASE, pair=0)
    assert TestSamples([candidate, base]).stalls() == (3, 0)
    assert TestSamples([candidate]).stalls() == (3,)


def test_samples_without_a_time_from_end_to_end_have_no_stalls() -> None:
    """Such as samples of a load, or of an answer cut short before its first token."""
    assert TestSamples([ProcessSample(0, ({"request_latency": 1.0},))]).stalls() == (0,)
    assert TestSamples([ProcessSample(0, ())]).stalls() == (0,)


@pytest.mark.parametrize(
    ("expected", "replays"),
    [([8.0], [2]), ([9.0], [3]), ([math.inf], [3]), ([8.0, 9.0, 1.0], [2, 3, 3])],
)
def test_a_test_that_needs_many_more_pairs_takes_turns_for_longer_from_then_on(
    stage: Any, monkeypatch: pytest.MonkeyPatch, expected: list[float], replays: list[int]
) -> None:
    # Three replays of 0.225 s.
    monkeypatch.setattr("pytest_llmperf.measure.turns._MAX_WANTED_SECONDS", 0.65)
    looks = iter(expected)

    def undecided(tests: Any) -> dict[str, OpenTest]:
        pairs = next(looks, None)
        return {} if pairs is None else {"one": OpenTest(["tokens_per_sec"], pairs=pairs)}

    most = 1 + len(expected)
    samples = measure(stage, processes=1, most=most, undecided=undecided).tests["one"]

    candidates = [half for half in samples.processes if half.side == CANDIDATE and half.turns]
    assert [len(half.turns.values["end_to_end"]) for half in candidates if half.turns] == replays


def test_short_prompts_are_evaluated_more_often(stage: Any) -> None:
    """A prompt of one batch can't be cut into turns."""
    samples = measure(stage, tokens=5, iterations=2).tests["one"]

    for sample in samples.processes:
        if sample.pair == 1:
            assert sample.turns is not None
            # Decode takes four times as long: two more prompts, the most, for each whole replay.
            assert len(sample.turns.first_tokens) == 2 * (1 + 2)
            assert len(sample.turns.values["end_to_end"]) == 2


def test_short_replays_are_repeated() -> None:
    workload = Workload((RecordedRequest(build_request(prompt="x", max_tokens=9), (), None, 9),))

    # 2 s in turns: four replays of 0.6 s, but of 2 s as many as are planned.
    assert (
        planned_replays(workload, 0.0625, 0.625, 3, ["tokens_per_sec"], min_seconds=2.0)
        == ("whole",) * 4
    )
    assert (
        planned_replays(workload, 0.2, 2.0, 3, ["tokens_per_sec"], min_seconds=2.0)
        == ("whole",) * 3
    )
    assert (
        planned_replays(workload, 0.0625, 0.625, 3, ["first_token"], min_seconds=2.0)
        == ("prompt",) * 18
    )
    # Prompts that take as long as decode are not evaluated more often.
    assert planned_replays(workload, 0.05, 0.8, 1, None, min_seconds=2.0) == ("whole", "prompt") * 2


def test_a_slow_start_asks_for_more_turns_within_limits() -> None:
    starts = (0.5, 4.0, 60.0)
    for turns in ("tokens", "iterations"):
        assert [wanted_seconds(turns, start, 9.0) for start in starts] == [2.0, 4.0, 6.0]
    assert wanted_seconds("tokens", 4.0, 1.0) == 2.0
    assert wanted_seconds("iterations", 4.0, 1.0) == 1.0


def test_a_plan_may_ask_for_shorter_turns() -> None:
    workload = Workload((RecordedRequest(build_request(prompt="x", max_tokens=9), (), None, 9),))
    plan = Plan({"one": workload}, {}, 0.0, PerfConfig(), 1, 600.0, paired=True)
    shorter = replace(plan, min_turn_seconds=1.0)
    for turns in ("tokens", "iterations"):
        assert plan.wanted_turns("one", turns) == 2.0
        assert shorter.wanted_turns("one", turns) == 1.0


def test_a_test_whose_iterations_must_be_whole_takes_turns_by_them(stage: Any) -> None:
    samples = measure(stage, whole_iterations_only=frozenset({"one"}), tokens=3).tests["one"]

    second = [sample for sample in samples.processes if sample.pair == 1]
    assert all(sample.in_iteration_turns and sample.turns is None for sample in second)
    assert {len(sample.iterations) for sample in second} == {2}


def test_a_side_that_fails_in_its_turn_is_measured_alone(stage: Any) -> None:
    worn_out = """
        import pathlib
        log = pathlib.Path(__file__).with_name("count")
        def answer(prompt):
            with log.open("a") as file:
                file.write("x")
            for token in range(4):
                if len(log.read_text()) == 6 and token == 2:
                    raise ValueError("worn out")
                yield "a"
    """
    measurement = stage.run(
        {"one": stage.workload("x")},
        worn_out,
        base="""
            def answer(prompt):
                yield from "aaaa"
        """,
        processes=2,
        most=2,
        iterations=2,
        warmup_max=1,
    )

    samples = measurement.tests["one"]
    assert "worn out" in measurement.why_not_side_by_side
    assert samples.error is None
    assert samples.pairs == 2
    assert all(sample.turns is None for sample in samples.processes)


BUSY = FitnessFinding("busy_cores", "invalid", "process 1 (cc) used 2.0 of 2 cores")
SWAPPED = FitnessFinding("swapping", "invalid", "memory is short")


def test_what_hits_both_sides_alike_voids_no_pair_but_their_levels(stage: Any) -> None:
    stage.findings = [[], [], [BUSY], []]
    samples = measure(stage, processes=2, most=2).tests["one"]

    assert (samples.pairs, samples.void_pairs) == (2, 0)
    disturbed = [sample for sample in samples.processes if sample.disturbed]
    assert len(disturbed) == 1
    assert disturbed[0].disturbed == "process 1 (cc) used 2.0 of 2 cores (busy_cores)"
    (noted,) = disturbed[0].findings
    assert noted.severity == "note"
    assert noted.text.endswith("; this affected both sides alike, because they took turns")
    assert len(samples.undisturbed().processes) == 3
    assert len(samples.differences(get_metric("tokens_per_sec")) or ()) == 1


@pytest.mark.parametrize(
    ("findings", "way"), [([[], [], [SWAPPED]], "tokens"), ([[], [], [BUSY]], "iterations")]
)
def test_what_can_hit_one_side_alone_voids_its_pair(
    stage: Any, findings: list[list[FitnessFinding]], way: str
) -> None:
    stage.turns, stage.findings = lambda client: way, findings
    samples = measure(stage, processes=2, most=3).tests["one"]

    assert (samples.pairs, samples.void_pairs) == (2, 1)
    assert not any(sample.disturbed for sample in samples.processes)


def test_nobody_waits_for_what_hits_both_sides_alike(stage: Any) -> None:
    asked: list[str | None] = []

    def before(turns: Any) -> float:
        asked.append(turns)
        return 0.0

    stage.before = before
    measure(stage)

    assert asked == [None, None, "tokens", "tokens"]


def test_a_pair_runs_alone_where_such_pairs_contradict_the_turns(
    stage: Any, tmp_path: Path
) -> None:
    def undecided(tests: Any) -> dict[str, OpenTest]:
        pairs = tests["one"].pairs
        return {"one": OpenTest(without_turns=pairs == 3)} if pairs < 5 else {}

    samples = measure(
        stage, processes=2, most=9, undecided=undecided, iterations=1, tokens=3
    ).tests["one"]

    ran = [
        all(sample.turns is None for sample in samples.processes if sample.pair == pair)
        for pair in range(samples.pairs)
    ]
    assert ran == [True, False, False, True, False]
    rate = get_metric("tokens_per_sec")
    assert len(samples.differences(rate) or ()) == 3
    assert len(samples.differences_without_turns(rate)) == 2


def test_a_pair_that_ran_alone_takes_no_place_of_those_that_decide(stage: Any) -> None:
    def undecided(_: Any) -> dict[str, OpenTest]:
        return {"one": OpenTest()}

    samples = measure(
        stage, processes=3, most=3, undecided=undecided, iterations=1, tokens=3
    ).tests["one"]

    assert samples.pairs_without_turns == 1
    assert len(samples.differences(get_metric("tokens_per_sec")) or ()) == 3


def test_a_pair_that_can_not_run_alone_on_a_busy_machine_leaves_the_verdict_to_the_turns(
    stage: Any,
) -> None:
    def undecided(tests: Any) -> dict[str, OpenTest]:
        return {"one": OpenTest(without_turns=True)}

    # The first pair and two in turns; then one alone, which is void.
    stage.findings = [[]] * 6 + [[BUSY]] * 9
    measured = measure(stage, processes=3, most=9, undecided=undecided, iterations=1, tokens=3)

    samples = measured.tests["one"]
    assert (samples.pairs, samples.void_pairs) == (3, 1)
    assert not samples.given_up


def test_a_test_that_may_take_no_turns_runs_one_process_after_the_other(stage: Any) -> None:
    """Such as a test that gates a GPU counter; the others go on taking turns."""
    workloads = {name: stage.workload("x", tokens=3) for name in ("gated", "other")}
    app = logged("A", 3, 0.001)
    measurement = stage.run(
        workloads,
        app,
        base=app,
        run_alone=frozenset({"gated"}),
        processes=4,
        most=4,
        iterations=2,
        warmup_max=1,
    )

    gated, other = (measurement.tests[name] for name in ("gated", "other"))
    assert (gated.pairs, other.pairs) == (4, 4)
    assert not any(sample.turns or sample.in_iteration_turns for sample in gated.processes)
    assert [len(sample.iterations) for sample in gated.processes] == [2] * 8
    assert [sample.turns is not None for sample in other.processes] == [False] * 2 + [True] * 6
    # From the second round on, the tests' pairs also alternate.
    rounds = {name: {half.pair for half in measurement.tests[name].processes} for name in workloads}
    assert rounds == {"gated": {0, 1, 3, 5}, "other": {0, 2, 4, 6}}


def test_an_engine_with_fewer_layers_on_the_gpu_beside_another_is_measured_alone() -> None:
    def info(layers: int | None) -> EngineInfo:
        gpu = None
        if layers is not None:
            gpu = GpuUtilization(GpuStatus.FEWER, layers, 31, -1)
        return EngineInfo("llama_cpp", "0", "model", gpu=gpu)

    assert fewer_layers(info(31), info(20)) == (
        "20/31 layers fitted on the GPU beside the other process, 31/31 without it"
    )
    for by_itself, beside in ((31, 31), (None, 20), (31, None), (20, 31)):
        assert fewer_layers(info(by_itself), info(beside)) == ""
    assert fewer_layers(None, info(20)) == ""
