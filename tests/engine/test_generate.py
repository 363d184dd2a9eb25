from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_llmperf.engine.errors import EngineError
from pytest_llmperf.engine.handle import LlmEngine
from pytest_llmperf.engine.launch import LaunchSpec

PROMPT = "The capital of France is"


def test_a_generation_has_as_many_token_ids_as_asked(engine: LlmEngine) -> None:
    generation = engine.generate(PROMPT, max_tokens=5)

    assert len(generation.token_ids) == generation.output_tokens == 5
    assert generation.finish_reason == "length"


def test_the_default_number_of_tokens_is_the_configured_one(engine: LlmEngine) -> None:
    assert engine.generate(PROMPT).output_tokens == 8


def test_the_text_answers_the_prompt(engine: LlmEngine) -> None:
    assert "Paris" in engine.generate(PROMPT, max_tokens=4).text


def test_every_token_has_its_arrival_time_in_order(engine: LlmEngine) -> None:
    timeline = engine.generate(PROMPT, max_tokens=5).timeline

    assert timeline.t_prefill_start is not None
    assert timeline.t_prefill_end is not None
    moments = [
        timeline.t_start,
        timeline.t_prefill_start,
        timeline.t_prefill_end,
        *timeline.token_times,
    ]
    assert len(timeline.token_times) == 5
    assert moments == sorted(moments)
    assert len(set(timeline.token_times)) == 5


def test_every_metric_is_defined_for_several_tokens(engine: LlmEngine) -> None:
    metrics = engine.generate(PROMPT, max_tokens=5).metrics

    assert set(metrics) == {
        "tokens_per_sec",
        "first_token",
        "end_to_end",
        "prefill_tokens_per_sec",
        "time_per_output_token",
        "inter_token",
    }
    assert all(value > 0 for value in metrics.values())


def test_one_token_has_no_decode_rate(engine: LlmEngine) -> None:
    metrics = engine.generate(PROMPT, max_tokens=1).metrics

    assert "tokens_per_sec" not in metrics
    assert metrics["first_token"] == metrics["end_to_end"]


def test_token_ids_are_taken_as_the_prompt(engine: LlmEngine) -> None:
    text = engine.generate(PROMPT)

    ids = engine.generate(list(text.prompt_token_ids))

    assert ids.prompt_token_ids == text.prompt_token_ids
    assert ids.token_ids == text.token_ids


def test_a_token_id_the_model_does_not_have_is_refused(engine: LlmEngine) -> None:
    with pytest.raises(
        EngineError, match=r"token id 999999 is outside the model's vocabulary of \d+ tokens"
    ):
        engine.generate([1, 999999])

    assert engine.generate(PROMPT, max_tokens=1).output_tokens == 1


def test_a_prompt_that_leaves_no_room_is_refused_with_the_size_it_needs(engine: LlmEngine) -> None:
    with pytest.raises(EngineError) as caught:
        engine.generate([1] * 510, max_tokens=8)

    assert str(caught.value) == (
        "the context is too small: 510 prompt tokens + 8 output tokens > n_ctx 512; "
        "raise llm.n_ctx to at least 518"
    )


def test_a_prompt_of_more_than_one_batch_is_evaluated_whole(engine: LlmEngine) -> None:
    timeline = engine.generate([1] * 300, max_tokens=1).timeline

    assert timeline.prompt_tokens_evaluated == 300


def test_lone_surrogates_and_every_plane_survive_the_trip(engine: LlmEngine) -> None:
    generation = engine.generate("\ud800 \x00 \u2028 \U0001f600\n", max_tokens=1)

    assert generation.output_tokens == 1


def test_a_chat_uses_the_models_own_template(engine: LlmEngine) -> None:
    chat = engine.chat([{"role": "user", "content": "Say hi."}], max_tokens=1)

    start, end = (engine.generate(f"<|im_{name}|>", max_tokens=1) for name in ("start", "end"))
    opening, closing = start.prompt_token_ids[-1], end.prompt_token_ids[-1]
    # A system message, the user's and the opening of the answer.
    assert chat.prompt_token_ids.count(opening) == 3
    assert chat.prompt_token_ids.count(closing) == 2


def test_a_chat_the_template_refuses_is_an_error_of_the_request(engine: LlmEngine) -> None:
    with pytest.raises(EngineError, match=r"chat format .* refused the messages"):
        engine.chat([{"role": "user"}])

    assert engine.generate(PROMPT, max_tokens=1).output_tokens == 1


def test_a_context_that_llama_cpp_rounds_up_is_quoted_as_configured(
    llama_config: Callable[..., dict[str, Any]],
) -> None:
    small = LlmEngine(LaunchSpec("llama_cpp", llama_config(n_ctx=300)), max_tokens=8)
    try:
        with pytest.raises(
            EngineError, match=r"> n_ctx 300; .* \(llama.cpp rounds 300 up to 512\)"
        ):
            small.generate([1] * 510)
    finally:
        small.close()
