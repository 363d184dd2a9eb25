"""A workload recorded from the real engine does the same work when it is replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_specs import small_spec

from pytest_llmperf.config.model_path import resolve_model
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.measure.workload import Recorder

CHAT = [{"role": "user", "content": "Reply with the single word: yes"}]


@pytest.fixture(scope="module")
def engine() -> Iterator[LlmEngine]:
    engine = LlmEngine(small_spec(resolve_model("smollm2-135m", Path())), max_tokens=8)
    yield engine
    engine.close()


def short_answer(engine: LlmEngine) -> None:
    engine.generate("The capital of France is")


def ends_by_itself(engine: LlmEngine) -> None:
    engine.chat(CHAT, max_tokens=60, ignore_eos=False)


def stops(engine: LlmEngine) -> None:
    engine.generate("one two three four five", max_tokens=20, stop=[" eight", "8", "\n"])


def grammar(engine: LlmEngine) -> None:
    engine.generate("Is water wet?", grammar='root ::= "yes" | "no"')


def stream_left_early(engine: LlmEngine) -> None:
    with engine.stream("Once upon a time", max_tokens=6) as stream:
        next(stream)


def conversation(engine: LlmEngine) -> None:
    first = engine.chat(CHAT, max_tokens=60, ignore_eos=False)
    talk = [*first.prompt_token_ids, *first.token_ids, 20, 21, 22]
    engine.generate(talk, max_tokens=4, cache="keep")


@pytest.mark.parametrize(
    "body", [short_answer, ends_by_itself, stops, grammar, stream_left_early, conversation]
)
def test_a_replay_does_the_recorded_work(
    engine: LlmEngine, recorder: Recorder, body: Callable[[LlmEngine], None]
) -> None:
    engine.reset()
    engine.observer = recorder
    try:
        body(engine)
    finally:
        engine.observer = None
    workload = recorder.workload()
    assert workload is not None

    client = engine.start()
    for _ in range(2):
        client.reset()
        reasons = [r.why_not_same_work(client.request(r.replayed())) for r in workload.requests]
        assert reasons == [None] * len(workload.requests)


def test_a_prompt_that_is_served_from_the_cache_is_found(
    engine: LlmEngine, recorder: Recorder
) -> None:
    engine.reset()
    engine.observer = recorder
    try:
        engine.generate("The capital of France is", max_tokens=2, cache="keep")
    finally:
        engine.observer = None
    workload = recorder.workload()
    assert workload is not None
    (recorded,) = workload.requests

    client = engine.start()
    client.reset()
    assert recorded.why_not_same_work(client.request(recorded.replayed())) is None
    # This time the cache isn't emptied first.
    finding = recorded.why_not_same_work(client.request(recorded.replayed()))
    assert finding is not None
    assert (finding.name, finding.severity) == ("prompt_cached", "invalid")
    assert finding.evidence["evaluated"] < finding.evidence["recorded_evaluated"]
