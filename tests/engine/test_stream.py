from __future__ import annotations

import threading

import pytest

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.generation import Generation
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.request import Request

PROMPT = "The capital of France is"


def test_a_stream_yields_every_token_and_ends_in_the_generation(engine: LlmEngine) -> None:
    stream = engine.stream(PROMPT, max_tokens=6)

    tokens = list(stream)

    generation = stream.generation
    assert tuple(token.id for token in tokens) == generation.token_ids
    assert "".join(token.text for token in tokens) == generation.text
    assert tuple(token.time for token in tokens) == generation.timeline.token_times


def test_a_stream_gives_the_same_tokens_as_generate(engine: LlmEngine) -> None:
    assert engine.stream(PROMPT).generation.token_ids == engine.generate(PROMPT).token_ids


def test_a_chat_can_be_streamed(engine: LlmEngine) -> None:
    messages = [{"role": "user", "content": "Say hi."}]

    streamed = engine.stream(messages=messages, max_tokens=3).generation

    assert streamed.token_ids == engine.chat(messages, max_tokens=3).token_ids


def test_stopping_early_leaves_the_engine_usable(engine: LlmEngine) -> None:
    whole = engine.generate(PROMPT, max_tokens=3)

    with engine.stream(PROMPT, max_tokens=20) as stream:
        next(stream)

    assert engine.generate(PROMPT, max_tokens=3).token_ids == whole.token_ids


def test_a_stream_that_was_stopped_has_no_generation(engine: LlmEngine) -> None:
    with engine.stream(PROMPT, max_tokens=4) as stream:
        next(stream)

    with pytest.raises(EngineError, match="closed before its end"):
        _ = stream.generation


def test_a_stream_that_was_stopped_is_observed_with_all_its_work(engine: LlmEngine) -> None:
    seen: list[tuple[Request, Generation]] = []
    engine.observer = lambda request, generation: seen.append((request, generation))
    try:
        with engine.stream(PROMPT, max_tokens=6) as stream:
            next(stream)
    finally:
        engine.observer = None

    assert [generation.output_tokens for _, generation in seen] == [6]


def test_a_request_inside_an_open_stream_is_refused_and_the_stream_goes_on(
    engine: LlmEngine,
) -> None:
    with engine.stream(PROMPT, max_tokens=6) as stream:
        next(stream)

        with pytest.raises(EngineError, match="a stream of this engine is still open"):
            engine.generate(PROMPT)

        assert len(list(stream)) == 5


def test_reset_ends_a_stream_that_somebody_left_open(engine: LlmEngine) -> None:
    left_open = engine.stream(PROMPT, max_tokens=6)
    next(left_open)

    engine.reset()

    assert engine.generate(PROMPT, max_tokens=2).output_tokens == 2
    assert list(left_open) == []


def test_a_stream_can_be_read_and_closed_by_another_thread(engine: LlmEngine) -> None:
    stream = engine.stream(PROMPT, max_tokens=6)
    reader = threading.Thread(target=next, args=(stream,))
    reader.start()
    reader.join()

    stream.close()

    assert engine.generate(PROMPT, max_tokens=2).output_tokens == 2


def test_closing_the_engine_ends_an_open_stream(engine: LlmEngine) -> None:
    left_open = engine.stream(PROMPT, max_tokens=200)
    next(left_open)

    engine.close()
    left_open.close()

    assert engine.worker_pid is None
    assert engine.generate(PROMPT, max_tokens=2).output_tokens == 2


def test_a_stream_needs_a_prompt_or_messages(engine: LlmEngine) -> None:
    with pytest.raises(TypeError, match="either a prompt or messages="):
        engine.stream()
