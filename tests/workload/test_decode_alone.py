"""Turns of tokens with only decode undecided: the prompt is restored, the work is the same."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_specs import small_spec
from tiny_architectures import tiny_jamba, tiny_mamba
from tiny_models import tiny_llama

from pytest_llmperf.config.schema import PerfConfig
from pytest_llmperf.engine.client import EngineClient, LaunchSpec
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.llama_cpp import LlamaCppEngine
from pytest_llmperf.engine.request import Request, build_request
from pytest_llmperf.measure.plan import Plan
from pytest_llmperf.measure.rounds import OpenTest, Rounds
from pytest_llmperf.measure.samples import BASE, CANDIDATE, TestSamples
from pytest_llmperf.measure.sides import Side, starter_of
from pytest_llmperf.measure.turns import needs_decode_alone, planned_replays
from pytest_llmperf.measure.workload import RecordedRequest, Workload
from pytest_llmperf.metrics import get_metric

PROMPT = [1, *range(70, 110)]
TOKENS = 12
DECODE = ["tokens_per_sec"]


def spec_of(model: Path) -> LaunchSpec:
    return small_spec(model, n_batch=64, n_ubatch=64)


def recorded(request: Request, *, evaluated: int | None = len(PROMPT)) -> RecordedRequest:
    return RecordedRequest(request, tuple(PROMPT), evaluated, TOKENS)


def asked(**changes: Any) -> Request:
    return build_request(**{"prompt": PROMPT, "max_tokens": TOKENS, **changes})


def test_decode_after_a_restored_prompt_is_the_same_work() -> None:
    import llama_cpp

    engine = LlamaCppEngine(spec_of(tiny_llama()).config)
    memory = llama_cpp.llama_get_memory(engine._ctx)

    def held() -> tuple[int, ...]:
        """Return the first and last position in the cache, and the size of its state in bytes."""
        return (
            llama_cpp.llama_memory_seq_pos_min(memory, 0),
            llama_cpp.llama_memory_seq_pos_max(memory, 0),
            llama_cpp.llama_state_seq_get_size(engine._ctx, 0),
        )

    request = recorded(asked())
    prompt = request.until_first_token()
    engine.generate(prompt.replayed(), None)
    after_prompt = held()
    whole = engine.generate(request.replayed(), None)
    after_whole = held()
    for _ in range(3):
        kept = engine.generate(request.with_kept_prompt().replayed(), None)
        assert kept.token_ids == whole.token_ids
        assert kept.prompt_token_ids == whole.prompt_token_ids
        assert kept.timeline.prompt_tokens_evaluated == 1
        assert held() == after_whole
    restored = prompt.with_kept_prompt()
    assert restored.why_not_same_work(engine.generate(restored.replayed(), None)) is None
    assert held() == after_prompt != after_whole
    assert after_prompt[:2] == (0, len(PROMPT) - 1)
    engine.close()


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch, exact_replays: None) -> list[tuple[str, int | None]]:
    """Cache mode and number of evaluated prompt tokens of every replay in turns."""
    seen: list[tuple[str, int | None]] = []
    in_turns = EngineClient.in_turns

    def noting(
        client: EngineClient, request: Request, tokens: int
    ) -> Generator[int, None, Generation]:
        generation = yield from in_turns(client, request, tokens)
        seen.append((request.cache, generation.timeline.prompt_tokens_evaluated))
        return generation

    monkeypatch.setattr(EngineClient, "in_turns", noting)
    return seen


class NoWatch:
    """A machine watch that watches nothing."""

    def __init__(self, client: EngineClient) -> None:
        pass

    def iteration_metrics(self, timelines: Any) -> dict[str, float]:
        return {}

    overall_metrics = iteration_metrics

    def record_turn(self, timelines: Any) -> None:
        pass

    def missing_reasons(self) -> dict[str, str]:
        return {}

    def nothing(self) -> None:
        return None

    telemetry = sample = cpu_mhz = nothing

    def stop(self) -> tuple[()]:
        return ()


Measure = Callable[..., TestSamples]


@pytest.fixture
def measure(replayed: list[tuple[str, int | None]]) -> Measure:
    """Measure one pair alone and one in turns, while the given metrics are undecided."""

    def run(model: Path, metrics: list[str] = DECODE) -> TestSamples:
        start = starter_of(spec_of(model))
        perf = PerfConfig(processes=1, max_pairs=2, iterations=3, warmup_max=1)
        plan = Plan({"one": Workload((recorded(asked()),))}, {}, 0.0, perf, 1, 60.0, paired=True)

        def undecided(tests: Mapping[str, TestSamples]) -> dict[str, OpenTest]:
            return {"one": OpenTest(metrics)} if tests["one"].pairs < 2 else {}

        rounds = Rounds(
            plan,
            [Side(role, role, start) for role in (CANDIDATE, BASE)],
            NoWatch,
            lambda _: None,
            undecided,
            possible_turns=lambda _: "tokens",
        )
        samples = rounds.run().tests["one"]
        assert samples.error is None
        assert (samples.pairs, samples.void_pairs) == (2, 0)
        return samples

    return run


def in_turns(samples: TestSamples) -> Iterator[Any]:
    turns = [sample.turns for sample in samples.processes if sample.pair]
    assert len(turns) == 2
    yield from turns


def test_only_the_last_token_of_the_prompt_is_evaluated(
    measure: Measure, replayed: list[tuple[str, int | None]]
) -> None:
    samples = measure(tiny_llama())

    # Three iterations in each process.
    assert replayed == [("keep", 1)] * 6
    for turns in in_turns(samples):
        assert turns.decode
        assert turns.has("tokens_per_sec")
        # With a kept prompt there is no time to the first token, nor from end to end.
        assert turns.first_tokens == ()
        assert set(turns.values) <= {"tokens_per_sec", "time_per_output_token"}
        assert not turns.has("first_token")
        assert not turns.has("end_to_end")
    assert len(samples.differences(get_metric("tokens_per_sec")) or ()) == 1


@pytest.mark.parametrize("model", [tiny_mamba, tiny_jamba], ids=["recurrent", "hybrid"])
def test_a_memory_that_can_not_go_back_evaluates_the_prompt_again(
    measure: Measure, replayed: list[tuple[str, int | None]], model: Callable[[], Path]
) -> None:
    samples = measure(model())

    assert set(replayed) == {("clear", len(PROMPT))}
    for turns in in_turns(samples):
        assert turns.has("tokens_per_sec")
        assert turns.has("first_token")


def test_an_engine_that_does_not_claim_it_evaluates_the_prompt_again(
    measure: Measure, replayed: list[tuple[str, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = replace(LaunchSpec("llama_cpp", {}).kind, restores_prompts=False)
    monkeypatch.setattr(EngineClient, "kind", kind)
    measure(tiny_llama())

    assert set(replayed) == {("clear", len(PROMPT))}


@pytest.mark.parametrize("metrics", [["first_token"], ["tokens_per_sec", "end_to_end"]])
def test_where_more_than_decode_is_open_the_whole_prompt_is_evaluated(
    measure: Measure, replayed: list[tuple[str, int | None]], metrics: list[str]
) -> None:
    samples = measure(tiny_llama(), metrics)

    assert set(replayed) == {("clear", len(PROMPT))}
    assert all(turns.has("first_token") for turns in in_turns(samples))


def test_only_a_single_request_of_a_fixed_length_finds_its_prompt_in_the_cache() -> None:
    request = recorded(asked())

    def alone(*requests: RecordedRequest, metrics: list[str] | None = None) -> bool:
        return needs_decode_alone(Workload(requests), DECODE if metrics is None else metrics)

    assert alone(request)
    assert alone(request, metrics=["tokens_per_sec", "time_per_output_token"])
    assert not alone(request, request)
    assert not alone(recorded(asked(cache="keep")))
    assert not alone(recorded(asked(grammar='root ::= "a"')))
    assert not alone(recorded(asked(), evaluated=None))
    assert not alone(recorded(asked(), evaluated=len(PROMPT) - 1))
    assert not alone(RecordedRequest(asked(), (), None, TOKENS))
    # Another package's metric may look at the prompt.
    assert not alone(request, metrics=["tokens_per_sec", "of_another_package"])
    assert not needs_decode_alone(Workload((request,)), None)


def test_the_plan_counts_no_prompt_that_is_restored() -> None:
    workload = Workload((recorded(asked()),))

    def plan(iterations: int, *, restores: bool) -> tuple[str, ...]:
        # Eleven decode steps take 0.55 s of a replay of 1 s.
        return planned_replays(
            workload, 0.05, 1.0, iterations, DECODE, min_seconds=2.0, restores_prompt=restores
        )

    assert plan(1, restores=False) == ("whole",) * 2
    assert plan(1, restores=True) == ("decode",) * 4
    assert plan(9, restores=True) == ("decode",) * 9


def test_a_prompt_that_was_not_kept_is_other_work() -> None:
    client = EngineClient.start(spec_of(tiny_llama()))
    request = recorded(asked())
    kept = request.with_kept_prompt()
    client.reset()
    finding = kept.why_not_same_work(client.request(kept.replayed()))
    assert finding is not None
    assert (finding.name, finding.severity) == ("other_work", "invalid")
    assert f"{len(PROMPT)} of its tokens evaluated instead of 1" in finding.text
    # For the request as recorded, a kept prompt was served from a cache.
    finding = request.why_not_same_work(client.request(kept.replayed()))
    assert finding is not None
    assert finding.name == "prompt_cached"
    client.close()
